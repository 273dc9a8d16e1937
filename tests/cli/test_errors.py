"""The command line as a user meets it: every mistake in two lines with a remedy and a code, and every end a quiet one."""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import pytest

from tests.lab import hosts
from tests.lab.actor import Actor, actor, connect
from tests.lab.trace import ROOT, Event, lines, matches, tcptrace, watching
from tracer import __version__, cli
from tracer.cli.errors import INTERRUPTED, UNWRITTEN, guarded
from tracer.errors import MISSING_PRECONDITION, USAGE, TcptraceError

PORT: Final = 7743
COMMANDS: Final = ("watch", "record", "replay", "snapshot", "doctor", "demo")
# as a user has it: what is written last is flushed last
BUFFERED: Final = {**os.environ, "PYTHONUNBUFFERED": ""}
# nobody, but for the right to read the checkout wherever it is
READS: Final = "-all,+dac_read_search"
NOBODY: Final = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    f"--inh-caps={READS}",
    f"--ambient-caps={READS}",
]
POWERLESS: Final = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def run(*arguments: str, by: list[str] | None = None, stdout: Any = subprocess.PIPE, **environment: object) -> Any:
    """tcptrace run to its end, its output as text."""
    return subprocess.run(
        [*(by or []), *tcptrace(*arguments)],
        cwd=ROOT,
        env={**BUFFERED, **{name: str(value) for name, value in environment.items()}},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )


def mended(done: Any, code: int) -> tuple[str, str]:
    """Cause and remedy, which are all that was said."""
    assert (done.returncode, done.stdout) == (code, "")
    cause, remedy = done.stderr.splitlines()
    assert cause.startswith("tcptrace: ") and remedy.startswith("  ")
    return cause.removeprefix("tcptrace: "), remedy.strip()


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("watch --port https", "'https' is neither a port nor a range such as 8000-8100"),
        ("snapshot --port 443-", "'443-' is neither a port nor a range such as 8000-8100"),
        ("watch --port 65536", "65536 is out of range: ports go from 1 to 65535"),
        ("watch --port 443 --port 0", "0 is out of range: ports go from 1 to 65535"),
        ("snapshot --port 8100-8000", "8100-8000 ends before it begins"),
        ("watch --peer 10.0.0.0/33", "'10.0.0.0/33' is neither an address nor a network such as 10.0.0.0/8"),
        ("snapshot --peer localhost", "'localhost' is neither an address nor a network such as 10.0.0.0/8"),
        ("watch --pid 0", "0 is not in the range x>=1"),
        ("watch --pid java", "'java' is not a valid process number"),
        ("watch --interval 0.05", "0.05 is not in the range 0.1<=x<=60"),
        ("watch --interval 61", "61.0 is not in the range 0.1<=x<=60"),
        ("watch --duration 0", "0.0 is not in the range 0<x<=31622400"),
        ("watch --duration -1", "-1.0 is not in the range 0<x<=31622400"),
        ("watch --duration soon", "'soon' is not a valid number of seconds"),
        ("snapshot --interval 1", "No such option"),
        ("watch 443", "unexpected extra argument (443)"),
        ("watch --metrics http", "'http' is neither a port nor an address and a port such as 127.0.0.1:9095"),
        ("watch --metrics 127.0.0.1:", "'127.0.0.1:' is neither a port nor an address and a port"),
        ("watch --metrics 0", "0 is out of range: ports go from 1 to 65535"),
        ("watch --metrics :65536", "65536 is out of range: ports go from 1 to 65535"),
        ("watch --metrics web-1:9095", "'web-1' is not an address: give one of this host, or the port alone"),
        ("watch --metrics ::1:9095", "'::1:9095' is not clear: an IPv6 address stands in brackets, such as [::1]:9095"),
        ("watch --otlp collector:4318", "'collector:4318' is not the URL of a receiver such as http://127.0.0.1:4318"),
        ("watch --otlp ftp://collector", "'ftp://collector' is not the URL of a receiver"),
        ("watch --otlp http://", "'http://' is not the URL of a receiver"),
        ("watch --otlp http://[::1", "'http://[::1' is not the URL of a receiver"),
        ("watch --otlp http://h:99999", "'http://h:99999' is not the URL of a receiver"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_with_the_help_that_mends_it(arguments: str, cause: str) -> None:
    said, remedy = mended(run(*arguments.split()), USAGE)
    assert cause in said
    assert remedy == f"try `tcptrace {arguments.partition(' ')[0]} --help`"


@pytest.mark.parametrize("place", ["watch {}", "watch --{}", "watch --{}=1", "watch --port {}", "watch --pid {}", "{}", "--{}"])
def test_an_argument_with_escape_sequences_is_told_harmless(place: str) -> None:
    said, _ = mended(run(*place.format("\x1b[31m\udcff\u202e").split()), USAGE)
    assert said.isprintable() and r"\x1b[31m\udcff\u202e" in said


def test_an_error_of_many_lines_is_told_in_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(TcptraceError("one\ntwo\x1b[2J", "do\r\nit", 7), capsys) == (7, "tcptrace: one two\\x1b[2J\n  do it\n")


@pytest.mark.parametrize("arguments", [["wacth"], ["--json"], ["demo --json"]])
def test_an_unknown_command_or_option_is_told_with_the_help_that_lists_them(arguments: list[str]) -> None:
    said, remedy = mended(run(*arguments), USAGE)
    assert said.startswith("No such ") and arguments[0] in said
    assert remedy == "try `tcptrace --help`"


@pytest.mark.parametrize("command", ["watch", "snapshot"])
def test_a_process_that_does_not_exist_is_told(command: str) -> None:
    said, remedy = mended(run(command, "--pid", str(2**22 + 1)), USAGE)
    assert said == f"there is no process {2**22 + 1}"
    assert remedy == "`pgrep -a NAME` finds the pid of a program"


@pytest.mark.parametrize("arguments", ["--duration nan", "--duration inf", "--duration 1e308", "--interval nan --duration 1"])
def test_a_time_that_is_no_number_is_a_mistake(arguments: str) -> None:
    mended(run("watch", *arguments.split()), USAGE)


@pytest.mark.kernel
@pytest.mark.parametrize("command", ["watch", "snapshot"])
def test_who_is_not_root_is_sent_to_sudo(command: str) -> None:
    said, remedy = mended(run(command, by=NOBODY), MISSING_PRECONDITION)
    assert said == "this needs root (CAP_BPF is missing)"
    assert remedy == "run it with sudo"


@pytest.mark.kernel
@pytest.mark.parametrize("command", ["watch", "snapshot"])
def test_root_without_its_capabilities_is_told_which_is_missing(command: str) -> None:
    said, _ = mended(run(command, by=POWERLESS), MISSING_PRECONDITION)
    assert said == "CAP_BPF is missing"


@pytest.mark.kernel
def test_a_demo_of_who_is_not_root_ends_before_it_builds_anything() -> None:
    done = run("demo", by=NOBODY)
    assert (done.returncode, done.stdout) == (MISSING_PRECONDITION, "")
    assert done.stderr.endswith("tcptrace: the demo makes network namespaces, which needs root\n  run it with sudo\n")


@pytest.mark.kernel
def test_a_demos_picture_that_cannot_be_written_is_told_before_it_begins(tmp_path: Path) -> None:
    said, remedy = mended(run("demo", "--svg", str(tmp_path / "none" / "outage.svg")), USAGE)
    assert "outage.svg cannot be written: " in said and "No such file or directory" in said
    assert remedy == "give --svg another place"


@pytest.mark.kernel
def test_a_demo_that_cannot_run_leaves_an_older_picture_as_it_is(tmp_path: Path) -> None:
    picture = tmp_path / "outage.svg"
    picture.write_text("<svg/>")
    mended(run("demo", "--svg", str(picture), by=POWERLESS), MISSING_PRECONDITION)
    assert picture.read_text() == "<svg/>"


@pytest.mark.kernel
@pytest.mark.parametrize("command", ["watch", "snapshot"])
def test_pypis_bcc_is_told_with_the_package_that_is_wanted(command: str, tmp_path: Path) -> None:
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").write_text("class Client: ...\n")
    said, remedy = mended(run(command, PYTHONPATH=tmp_path), MISSING_PRECONDITION)
    assert "unrelated package from PyPI" in said
    assert "pip uninstall bcc" in remedy and "apt-get install python3-bpfcc" in remedy


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    """A pipe whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "doctor",
        "doctor --json",
        pytest.param("snapshot", marks=pytest.mark.kernel),
        pytest.param("snapshot --json", marks=pytest.mark.kernel),
        pytest.param("watch --json --duration 0.1", marks=pytest.mark.kernel),
    ],
)
def test_a_pipe_that_nobody_reads_ends_it_quietly(arguments: str, closed_pipe: int) -> None:
    assert run(*arguments.split(), stdout=closed_pipe).stderr == ""


def test_a_pipe_that_nobody_reads_is_no_failure_when_it_shows_at_the_end(closed_pipe: int) -> None:
    assert run("doctor", "--json", stdout=closed_pipe).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "doctor",
        pytest.param("snapshot", marks=pytest.mark.kernel),
        pytest.param("snapshot --json", marks=pytest.mark.kernel),
        pytest.param("watch --json --duration 0.1", marks=pytest.mark.kernel),
    ],
)
def test_a_pipe_that_nobody_reads_is_no_failure(arguments: str, closed_pipe: int) -> None:
    assert run(*arguments.split(), stdout=closed_pipe).returncode == 0


@pytest.mark.kernel
@pytest.mark.parametrize("arguments", ["snapshot", "snapshot --json", "watch --json --duration 0.5"])
def test_who_has_read_one_line_may_go(arguments: str) -> None:
    command = tcptrace(*arguments.split())
    with subprocess.Popen(command, cwd=ROOT, env=BUFFERED, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""


@pytest.mark.kernel
def test_a_reader_that_goes_is_noticed_though_nothing_happens() -> None:
    command = tcptrace("watch", "--json", "--port", "1")
    with subprocess.Popen(command, cwd=ROOT, env=BUFFERED, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline()
        child.stdout.close()
        try:
            assert (child.wait(5), child.stderr.read()) == (0, b"")
        finally:
            child.kill()


@pytest.mark.kernel
def test_a_locale_without_a_names_letters_is_no_traceback(lab: Lab) -> None:
    lab.clients[0].do("named('漢字')")
    lab.connect()
    for arguments, shown in (("snapshot --all", "漢字["), ("snapshot --all --json", '"name":"漢字"')):
        done = run(*arguments.split(), "--port", str(PORT), PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, "")
        assert shown in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "doctor",
        "doctor --json",
        pytest.param("snapshot", marks=pytest.mark.kernel),
        pytest.param("watch --json --duration 0.1", marks=pytest.mark.kernel),
    ],
)
def test_a_full_disk_is_told_without_a_traceback(arguments: str) -> None:
    with open("/dev/full", "w", encoding="ascii") as full:
        done = run(*arguments.split(), stdout=full)
    assert done.returncode == UNWRITTEN
    assert done.stderr.splitlines() == [
        "tcptrace: the output cannot be written: No space left on device",
        "  free some space there, or write to another place",
    ]


CLOSED: Final = ["--help", "doctor --json", "watch --port 0", pytest.param("snapshot --json", marks=pytest.mark.kernel)]


@pytest.mark.parametrize("arguments", CLOSED)
def test_no_stdout_at_all_is_as_if_nobody_had_wanted_the_output(arguments: str) -> None:
    usual = run(*arguments.split())
    done = run(*arguments.split(), by=["sh", "-c", 'exec "$@" >&-', "sh"])
    assert (done.returncode, done.stderr) == (usual.returncode, usual.stderr)


@pytest.mark.parametrize("arguments", CLOSED)
def test_no_stderr_at_all_leaves_the_exit_code(arguments: str) -> None:
    done = run(*arguments.split(), by=["sh", "-c", 'exec "$@" 2>&- <&-', "sh"])
    assert (done.returncode, done.stderr) == (run(*arguments.split()).returncode, "")
    assert "tcptrace: " not in done.stdout


@pytest.mark.kernel
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_stream_with_its_last_line(number: int) -> None:
    with subprocess.Popen(
        tcptrace("watch", "--json"), cwd=ROOT, env=BUFFERED, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        child.send_signal(number)
        out, err = child.communicate(timeout=20)
    events = lines(first + out)
    assert (child.returncode, err) == (0, "")
    assert [one["event"]["sequence"] for one in events] == list(range(1, len(events) + 1))
    assert (action(events[0]), action(events[-1])) == ("stream-started", "stream-ended")


@pytest.mark.kernel
def test_a_duration_ends_it_by_itself() -> None:
    done = run("watch", "--json", "--duration", "0.3", "--interval", "0.1")
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = lines(done.stdout)
    assert (action(first), action(last)) == ("stream-started", "stream-ended")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_100_columns_and_has_examples(command: str) -> None:
    done = run(*command.split(), "--help", COLUMNS=250)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert done.stdout.startswith(f"Usage: {' '.join(['tcptrace', *command.split()])} ")
    assert examples(done.stdout)


def test_without_a_command_it_is_the_help() -> None:
    assert run().stdout == run("-h").stdout != ""


def test_help_lists_each_command() -> None:
    listed = re.findall(r"^  (\w+)  +\w", run("--help").stdout.partition("Commands:")[2], re.MULTILINE)
    assert tuple(listed) == COMMANDS


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_each_example_of_the_help_is_accepted(command: str) -> None:
    for example in examples(run(*command.split(), "--help").stdout):
        name, *arguments = shlex.split(re.split(r" [>|] ", example)[0])
        called = cli.tcptrace.get_command(click.Context(cli.tcptrace), name)
        assert called is not None
        called.make_context(name, arguments)


def test_it_says_its_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"tcptrace, version {__version__}\n")


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["tcptrace"])


def ended(raised: BaseException | None, capsys: pytest.CaptureFixture[str], result: object = None) -> tuple[int, str]:
    """Exit code and stderr of a command that raises, or returns, this."""

    @click.command()
    def command() -> object:
        if raised is not None:
            raise raised
        return result

    with pytest.raises(SystemExit) as left:
        guarded(command, "tcptrace")
    assert isinstance(left.value.code, int)
    return left.value.code, capsys.readouterr().err


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (1, 1), (3, 3), ("text", 0)])
def test_what_a_command_returns_is_the_exit_code(result: object, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(None, capsys, result) == (code, "")


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption_has_its_own_code(raised: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ended(raised, capsys)
    assert (code, said.strip()) == (INTERRUPTED, "")


def test_an_error_decides_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(TcptraceError("the cause", "the remedy", 7), capsys) == (7, "tcptrace: the cause\n  the remedy\n")


def test_a_mistake_of_ours_is_not_passed_off_as_the_users() -> None:
    with pytest.raises(ZeroDivisionError):
        guarded(click.Command("broken", callback=lambda: 1 // 0), "tcptrace")


def test_a_picture_that_cannot_be_written_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ended(click.FileError("outage.svg", "Permission denied"), capsys)
    cause, remedy = said.splitlines()
    assert code == USAGE and "outage.svg" in cause and "Permission denied" in cause
    assert remedy == "  try `tcptrace --help`"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EBADF])
def test_a_mistake_of_ours_with_a_file_is_not_passed_off_as_a_full_disk(number: int) -> None:
    def broken() -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        guarded(click.Command("broken", callback=broken), "tcptrace")


class Lab:
    """Two programs of one host, each connected to one of another. `ports` are the clients' ends."""

    def __init__(self, here: hosts.Host, there: hosts.Host, clients: tuple[Actor, Actor], server: Actor) -> None:
        self.here, self.there, self.clients, self.server = here, there, clients, server
        self.ports: list[int] = []

    def connect(self) -> tuple[int, int]:
        """Both connect, the second last; their ports."""
        first, second = (connect(one, self.server, self.there.ip, PORT, name=one.name[-1]) for one in self.clients)
        return first, second


@pytest.fixture
def lab() -> Iterator[Lab]:
    with (
        hosts.pair() as (here, there),
        actor(here, "lab-a") as one,
        actor(here, "lab-b") as other,
        actor(there, "lab-server") as server,
    ):
        yield Lab(here, there, (one, other), server)


def snapshot(*arguments: str) -> list[Event]:
    """What a snapshot says of connections; its first and last lines are checked."""
    done = run("snapshot", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    first, *events, last = lines(done.stdout)
    assert (action(first), action(last)) == ("stream-started", "stream-ended")
    assert last["tcptrace"]["stream"]["connections"] == len(events)
    assert {action(one) for one in events} <= {"connection-seen"}
    return events


@pytest.mark.kernel
@pytest.mark.slow
def test_watch_shows_both_ends_of_a_process_and_no_others(lab: Lab) -> None:
    with watching("--all", "--port", str(PORT), "--pid", str(lab.clients[1].pid), "--interval", "0.2") as trace:
        unwanted, wanted = lab.connect()
        for expected in ((wanted, PORT), (PORT, wanted)):
            trace.wait("connection-seen", seconds=20, where=lambda one, expected=expected: ends(one) == expected)  # type: ignore[misc]
    assert not [one for one in trace.events if matches(one, None, unwanted)], trace.story()
    assert trace.of("stream-started")[0]["tcptrace"]["stream"]["filters"] == f"port {PORT}, pid {lab.clients[1].pid}"


@pytest.mark.kernel
def test_watch_shows_the_peers_of_a_network_and_no_others(lab: Lab) -> None:
    with watching("--all", "--port", str(PORT), "--peer", f"{lab.there.ip}/32", "--interval", "0.2") as trace:
        first, second = lab.connect()
        for port in (first, second):
            trace.wait("connection-seen", where=lambda one, port=port: ends(one) == (port, PORT))  # type: ignore[misc]
    seen = [ends(one) for one in trace.of("connection-seen")]
    assert sorted(seen) == sorted([(first, PORT), (second, PORT)]), trace.story()


@pytest.mark.kernel
def test_a_snapshot_has_both_ends_with_their_processes(lab: Lab) -> None:
    first, second = lab.connect()
    events = {ends(one): one for one in snapshot("--all", "--port", str(PORT))}
    assert events.keys() == {(first, PORT), (PORT, first), (second, PORT), (PORT, second)}
    for (local, _), event in events.items():
        own = lab.server if local == PORT else lab.clients[local == second]
        assert (event["process"]["pid"], event["process"]["name"]) == (own.pid, own.name)
        assert event["tcptrace"]["verdict"]["phase"] == "ok"
        assert event["tcptrace"]["connection"]["netns"] == (lab.there if local == PORT else lab.here).namespace.inode


@pytest.mark.kernel
@pytest.mark.slow
def test_a_snapshot_takes_each_filter(lab: Lab) -> None:
    first, second = lab.connect()
    pid, here, there = str(lab.clients[0].pid), lab.here.ip, lab.there.ip
    assert snapshot("--port", str(PORT)) == []  # healthy ones are not what is looked for
    assert found("--port", str(second)) == {(second, PORT), (PORT, second)}
    assert found("--port", f"{PORT - 1}-{PORT + 1}", "--pid", pid) == {(first, PORT), (PORT, first)}
    assert found("--port", f"{PORT}", "--pid", pid, "--peer", here) == {(PORT, first)}
    assert found("--port", f"{PORT}", "--peer", f"{there}/32") == {(first, PORT), (second, PORT)}
    assert found("--port", f"{PORT}", "--peer", "2001:db8::/32") == set()
    assert found("--port", f"{PORT + 1}") == set()


@pytest.mark.kernel
def test_a_snapshot_in_a_pipe_has_a_line_a_connection(lab: Lab) -> None:
    first, second = lab.connect()
    done = run("snapshot", "--all", "--port", str(PORT))
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line for line in done.stdout.splitlines() if f"{lab.there.ip}:{PORT}" in line]
    assert len(rows) == 4
    for port, client in zip((first, second), lab.clients, strict=True):
        assert sum(f":{port} " in row and f"{client.name}[{client.pid}]" in row for row in rows) == 2


def action(event: Event) -> str:
    return str(event["event"]["action"])


def ends(event: Event) -> tuple[int, int]:
    """The local and the peer's port."""
    connection = event["tcptrace"]["connection"]
    return connection["local"]["port"], connection["peer"]["port"]


def found(*arguments: str) -> set[tuple[int, int]]:
    """The ends that a snapshot of healthy connections too shows."""
    return {ends(one) for one in snapshot("--all", *arguments)}


def examples(text: str) -> list[str]:
    """The commands that a help shows, without (sudo) tcptrace before and what is said after."""
    return [re.split(r" {3,}", line)[0] for line in re.findall(r"^ +(?:sudo )?tcptrace (.*)", text, re.MULTILINE)]
