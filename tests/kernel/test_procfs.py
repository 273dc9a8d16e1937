"""Processes and threads from /proc: made up and hostile ones, reused pids, and this very process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.events.records import Process, Thread
from tracer.kernel import procfs
from tracer.kernel.procfs import Processes
from tracer.text import LONGEST, printable

NS = 77
SECOND = 1_000_000_000
TICK = SECOND // os.sysconf("SC_CLK_TCK")
ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
POD = "pod2d5133c0_65f3_40b2_b375_c04866d418e1"


def stat(name: bytes = b"java", *, state: bytes = b"S", user: int = 3, system: int = 4, start: int = 900) -> bytes:
    """stat(5)."""
    before = b" ".join(b"%d" % number for number in range(4, 14))
    return b"100 (%s) %s %s %d %d 0 0 20 0 1 0 %d 0 0\n" % (name, state, before, user, system, start)


def put(home: Path, **files: bytes) -> Path:
    """Files of a process or thread; `exe` is where it points to."""
    home.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if name == "exe":
            os.symlink(content, os.fsencode(home / name))
        else:
            (home / name).write_bytes(content)
    return home


def java(root: Path, pid: int = 100) -> Path:
    return put(
        root / str(pid), comm=b"java\n", stat=stat(), cmdline=b"java\0-jar\0app.jar\0", exe=b"/usr/bin/java", cgroup=b"0::/\n"
    )


def container(root: Path, cgroup: str) -> str | None:
    put(root / "100", comm=b"java\n", cgroup=cgroup.encode())
    found = procfs.process(100, NS, root)
    assert found is not None
    return found.container


def test_a_process_comes_with_all_that_its_files_say(tmp_path: Path) -> None:
    (java(tmp_path) / "cgroup").write_text(f"0::/system.slice/docker-{ID}.scope\n")
    assert procfs.process(100, NS, tmp_path) == Process(NS, 100, "java", "/usr/bin/java", "java -jar app.jar", ID)


def test_a_kernel_thread_has_neither_command_line_nor_executable(tmp_path: Path) -> None:
    put(tmp_path / "2", comm=b"kthreadd\n", cmdline=b"", cgroup=b"0::/\n")
    assert procfs.process(2, NS, tmp_path) == Process(NS, 2, "kthreadd", None, None, None)


@pytest.mark.parametrize("kept", ["exe", "cmdline", "cgroup", "stat"])
def test_without_a_name_there_is_no_process(tmp_path: Path, kept: str) -> None:
    home = java(tmp_path)
    for file in home.iterdir():
        if file.name != kept:
            file.unlink()
    assert procfs.process(100, NS, tmp_path) is None


@pytest.mark.parametrize("gone", ["exe", "cmdline", "cgroup"])
def test_what_vanishes_is_unknown_and_the_rest_stands(tmp_path: Path, gone: str) -> None:
    home = java(tmp_path)
    (home / gone).unlink()
    found = procfs.process(100, NS, tmp_path)
    assert found is not None and found.name == "java"
    assert (found.executable is None, found.command_line is None) == (gone == "exe", gone == "cmdline")


def test_a_file_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    home = java(tmp_path)
    (home / "cmdline").unlink()
    (home / "cmdline").mkdir()
    found = procfs.process(100, NS, tmp_path)
    assert found is not None and found.command_line is None


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\x1b[2Jja\n", r"\x1b[2Jja"),
        (b"a) S 1 (b\n", "a) S 1 (b"),
        (b"bad\xff\n", r"bad\xff"),
        (b"cut\xc3", r"cut\xc3"),
        (b"two\nlines\n", r"two\x0alines"),
        (b"\xe2\x80\xaetxt\n", r"\u202etxt"),
        (b"\n", ""),
        (b"", ""),
    ],
)
def test_hostile_names_become_visible(tmp_path: Path, raw: bytes, shown: str) -> None:
    put(tmp_path / "100", comm=raw)
    put(tmp_path / "100/task/101", comm=raw, stat=stat(raw.rstrip(b"\n")))
    process, thread = procfs.process(100, NS, tmp_path), procfs.thread(100, 101, NS, tmp_path)
    assert process is not None and process.name == shown
    assert thread is not None and thread.name == shown


def test_hostile_paths_and_arguments_become_visible(tmp_path: Path) -> None:
    put(tmp_path / "100", comm=b"x\n", cmdline=b"x\0\x1b]0;t\x07\0\xfe\0", exe=b"/tmp/\xff\x1b (deleted)")
    found = procfs.process(100, NS, tmp_path)
    assert found is not None
    assert found.executable == r"/tmp/\xff\x1b (deleted)"
    assert found.command_line == r"x \x1b]0;t\x07 \xfe"


def test_empty_arguments_within_stay_and_those_at_the_end_go(tmp_path: Path) -> None:
    put(tmp_path / "100", comm=b"x\n", cmdline=b"x\0\0y\0\0\0")
    found = procfs.process(100, NS, tmp_path)
    assert found is not None and found.command_line == "x  y"


def test_a_huge_command_line_is_cut(tmp_path: Path) -> None:
    put(tmp_path / "100", comm=b"x\n", cmdline=b"java\0" + b"a" * 3_000_000 + b"\0")
    found = procfs.process(100, NS, tmp_path)
    assert found is not None and found.command_line is not None
    assert len(found.command_line) == LONGEST
    assert found.command_line.startswith("java aaa") and found.command_line.endswith("…")


def test_letters_that_the_longest_read_cuts_do_no_harm(tmp_path: Path) -> None:
    put(tmp_path / "100", comm=b"x\n", cmdline=b"a" + "é".encode() * 100_000)
    found = procfs.process(100, NS, tmp_path)
    assert found is not None and found.command_line == "a" + "é" * (LONGEST - 2) + "…"


@pytest.mark.parametrize(
    "cgroup",
    [
        f"12:pids:/docker/{ID}",
        f"0::/system.slice/docker-{ID}.scope",
        f"0::/system.slice/docker-{ID}.scope/init.scope",
        f"0::/docker/{ID}/docker/{OTHER}",
        f"0::/system.slice/nerdctl-{ID}.scope",
        f"0::/default/{ID}",
        f"0::/machine.slice/libpod-{ID}.scope",
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
        f"0::/libpod_parent/libpod-{ID}",
        f"11:memory:/kubepods/burstable/pod91a8fc3a-0ecf-48b4-81bf-78a7275d348c/{ID}",
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{POD}.slice/cri-containerd-{ID}.scope",
        f"0::/kubepods.slice/kubepods-{POD}.slice/crio-{ID}.scope",
        f"0::/../../kubepods-{POD}.slice/cri-containerd-{ID}.scope",
        f"2:cpu:/user.slice\n1:name=systemd:/docker/{ID}\n0::/",
    ],
)
@pytest.mark.parametrize("end", ["\n", ""])
def test_a_containers_id_is_found_in_the_cgroups(tmp_path: Path, cgroup: str, end: str) -> None:
    assert container(tmp_path, cgroup + end) == ID


@pytest.mark.parametrize(
    "cgroup",
    [
        "",
        "0::/",
        "0::/user.slice/user-0.slice/session-1.scope",
        "0::/system.slice/docker.service",
        f"0::/docker/{ID[1:]}",
        f"0::/docker/{ID}0",
        f"0::/docker/a{ID}",
        f"0::/docker/{ID.upper()}",
        f"0::/docker/{ID}.service",
        f"0::/docker/{ID}.scope2",
        f"0::/docker/{ID[:32]}\n{ID[32:]}",
    ],
)
def test_other_cgroups_are_no_containers(tmp_path: Path, cgroup: str) -> None:
    assert container(tmp_path, cgroup) is None


def test_containerds_id_behind_a_colon_is_found(tmp_path: Path) -> None:
    assert container(tmp_path, f"0::/system.slice/containerd.service/kubepods-burstable-{POD}.slice:cri-containerd:{ID}") == ID


@pytest.mark.parametrize("name", ["libpod-conmon", "crio-conmon"])
def test_the_monitor_of_a_container_is_not_in_it(tmp_path: Path, name: str) -> None:
    assert container(tmp_path, f"0::/machine.slice/{name}-{ID}.scope") is None


def test_a_thread_comes_with_state_channel_and_time(tmp_path: Path) -> None:
    put(tmp_path / "100/task/101", comm=b"gc\n", stat=stat(b"gc", state=b"D", user=5, system=6), wchan=b"futex_wait_queue")
    assert procfs.thread(100, 101, NS, tmp_path) == Thread(NS, 100, 101, "gc", "D", "futex_wait_queue", 11 * TICK, 1)


@pytest.mark.parametrize("channel", [None, b"", b"0"])
def test_a_thread_that_waits_for_nothing_that_is_told_has_no_channel(tmp_path: Path, channel: bytes | None) -> None:
    home = put(tmp_path / "100/task/101", comm=b"gc\n", stat=stat(b"gc", state=b"R"))
    if channel is not None:
        put(home, wchan=channel)
    found = procfs.thread(100, 101, NS, tmp_path)
    assert found is not None and (found.state, found.wait_channel) == ("R", None)


@pytest.mark.parametrize("name", [b"", b")", b"a b", b") R 1 1 1", b"((", b"x)\n(y", b"\xff\x1b)", b"1 (a) S"])
def test_no_name_confuses_the_numbers_behind_it(tmp_path: Path, name: bytes) -> None:
    put(tmp_path / "100/task/101", comm=b"x\n", stat=stat(name, state=b"T", user=1, system=1))
    found = procfs.thread(100, 101, NS, tmp_path)
    assert found is not None and (found.state, found.cpu_ns) == ("T", 2 * TICK)


@pytest.mark.parametrize("gone", ["comm", "stat"])
def test_a_thread_that_ends_while_we_look_is_none(tmp_path: Path, gone: str) -> None:
    home = put(tmp_path / "100/task/101", comm=b"gc\n", stat=stat())
    (home / gone).unlink()
    assert procfs.thread(100, 101, NS, tmp_path) is None
    assert procfs.thread(100, 102, NS, tmp_path) is None


@pytest.mark.parametrize("length", range(0, len(stat()) - 5, 3))
def test_a_stat_that_ends_too_soon_is_none(tmp_path: Path, length: int) -> None:
    put(tmp_path / "100/task/101", comm=b"gc\n", stat=stat()[:length])
    found = procfs.thread(100, 101, NS, tmp_path)
    assert found is None or stat()[:length].endswith((b"900", b"90", b"9", b"900 ", b"900 0"))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=40), st.binary(max_size=200))
def test_any_bytes_give_harmless_text_or_none(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, name: bytes, rest: bytes
) -> None:
    root = tmp_path_factory.mktemp("proc")
    home = put(root / "100", comm=name, cmdline=raw, cgroup=raw, stat=raw)
    put(home / "task/101", comm=name, stat=stat(rest), wchan=rest)
    process, thread = procfs.process(100, NS, root), procfs.thread(100, 101, NS, root)
    assert process is not None and thread is not None
    for text in (process.name, process.command_line or "", thread.name, thread.wait_channel or ""):
        assert printable(text) == text
    Processes(root).get(100, NS)


def test_a_process_is_remembered_for_a_while(tmp_path: Path) -> None:
    home = java(tmp_path)
    processes = Processes(tmp_path)
    first = processes.get(100, NS)
    put(home, comm=b"renamed\n")
    assert processes.get(100, NS + 9 * SECOND) is first
    later = processes.get(100, NS + 10 * SECOND)
    assert later is not None and (later.name, later.ns) == ("renamed", NS + 10 * SECOND)
    assert processes.get(100, NS + 19 * SECOND) is later


def test_who_needs_it_newer_gets_it_newer(tmp_path: Path) -> None:
    home = java(tmp_path)
    processes = Processes(tmp_path)
    processes.get(100, NS)
    put(home, comm=b"renamed\n")
    newer = processes.get(100, NS + 2, max_age_ns=1)
    assert newer is not None and newer.name == "renamed"


def test_a_reused_pid_is_noticed_at_once(tmp_path: Path) -> None:
    home = java(tmp_path)
    processes = Processes(tmp_path)
    processes.get(100, NS)
    put(home, comm=b"sshd\n", stat=stat(b"sshd", start=901), cmdline=b"sshd\0")
    reused = processes.get(100, NS + 1)
    assert reused is not None and (reused.name, reused.command_line, reused.ns) == ("sshd", "sshd", NS + 1)


def test_a_process_that_ended_is_not_remembered(tmp_path: Path) -> None:
    home = java(tmp_path)
    processes = Processes(tmp_path)
    processes.get(100, NS)
    (home / "stat").rename(tmp_path / "stat")
    assert processes.get(100, NS + 1) is None
    put(home, comm=b"back\n", stat=stat())
    back = processes.get(100, NS + 2)
    assert back is not None and back.name == "back"


def test_a_process_that_ends_between_two_files_is_none(tmp_path: Path) -> None:
    (java(tmp_path) / "comm").unlink()
    assert Processes(tmp_path).get(100, NS) is None


def test_a_forgotten_process_is_read_again(tmp_path: Path) -> None:
    home = java(tmp_path)
    processes = Processes(tmp_path)
    processes.get(100, NS)
    put(home, comm=b"renamed\n")
    processes.forget(100)
    processes.forget(999)
    again = processes.get(100, NS + 1)
    assert again is not None and again.name == "renamed"


def test_no_more_processes_are_remembered_than_allowed(tmp_path: Path) -> None:
    processes = Processes(tmp_path, most=3)
    for pid in range(1, 10):
        java(tmp_path, pid)
        processes.get(pid, NS)
    assert len(processes._known) == 3
    for pid in range(1, 10):
        put(tmp_path / str(pid), comm=b"renamed\n")
    kept = [pid for pid in (9, 8, 7, 1) if (found := processes.get(pid, NS)) and found.name == "java"]
    assert kept == [9, 8, 7]


def test_a_thread_has_its_process_and_what_is_gone_or_tells_nothing_has_none(tmp_path: Path) -> None:
    put(tmp_path / "100", status=b"Name:\tjava\nTgid:\t100\nNgid:\t0\nPid:\t100\n")
    put(tmp_path / "101", status=b"Name:\tTgid:\t7\nTgid:\t100\nPid:\t101\n")
    put(tmp_path / "102", status=b"Name:\tjava\n")
    assert [procfs.process_of(task, tmp_path) for task in (100, 101, 102, 103, 10**400)] == [100, 100, None, None, None]


def test_this_process_for_real() -> None:
    found = Processes().get(os.getpid(), NS)
    assert found is not None and (found.ns, found.pid) == (NS, os.getpid())
    assert found.executable == os.path.realpath(sys.executable)
    arguments = Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
    assert found.command_line == printable(arguments)
    assert procfs.process_of(os.getpid()) == os.getpid()


def test_a_thread_of_this_process_that_calls_itself_names() -> None:
    ready, end = threading.Event(), threading.Event()
    tids: list[int] = []

    def wait() -> None:
        tids.append(threading.get_native_id())
        Path(f"/proc/self/task/{tids[0]}/comm").write_bytes(b"a) R \x1b[1m\xff")
        ready.set()
        end.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        assert ready.wait(10)
        found = procfs.thread(os.getpid(), tids[0], NS)
    finally:
        end.set()
        thread.join()
    assert found is not None and found.name == r"a) R \x1b[1m\xff"
    assert found.state in {"S", "R"} and found.cpu_ns is not None and found.cpu_ns < 10 * SECOND
    assert procfs.thread(os.getpid(), tids[0], NS) is None


def test_a_zombie_keeps_its_name_alone_until_it_is_waited_for() -> None:
    processes = Processes()
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            alive = processes.get(child.pid, NS)
            assert alive is not None
        finally:
            child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        zombie = procfs.process(child.pid, NS)
        assert zombie is not None and (zombie.executable, zombie.command_line) == (None, None)
    assert processes.get(child.pid, NS) is None
    assert procfs.process(child.pid, NS) is None and procfs.process_of(child.pid) is None


def test_a_programs_own_hostile_arguments_for_real() -> None:
    shown = "\\x1b[31mred " + "a" * 100
    command = ["sh", "-c", "echo; read line", "sh", "\x1b[31mred", "a" * 100]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdout.readline()
            found = procfs.process(child.pid, NS)
        finally:
            child.stdin.close()
    assert found is not None and found.command_line is not None and found.command_line.endswith(shown)
