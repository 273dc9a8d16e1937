"""Network namespaces: found in made-up folders, and real ones entered and left."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracer.kernel.namespaces import NAMED, Namespace, discover, entered

HERE = "/proc/thread-self/ns/net"


def put(path: Path, same: Path | None = None) -> int:
    """A file that stands for a namespace, or another name of the `same`; its inode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if same is None:
        path.touch()
    else:
        os.link(same, path)
    return path.stat().st_ino


def inode(path: str = HERE) -> int:
    return os.stat(path).st_ino


@pytest.fixture
def fake(tmp_path: Path) -> tuple[Path, Path]:
    """A /proc and a /run/netns."""
    proc, named = tmp_path / "proc", tmp_path / "netns"
    proc.mkdir()
    named.mkdir()
    return proc, named


def test_a_namespace_of_many_processes_is_found_once(fake: tuple[Path, Path]) -> None:
    proc, named = fake
    first = put(proc / "1/ns/net")
    for pid in (2, 3, 4):
        put(proc / f"{pid}/ns/net", proc / "1/ns/net")
    other = put(proc / "5/ns/net")
    found = discover(proc, named)
    assert found.keys() == {first, other}
    assert found[other] == Namespace(other, f"{proc}/5/ns/net")
    assert all(inode(one.path) == one.inode == number for number, one in found.items())


def test_the_own_namespace_comes_first_and_by_the_threads_path(fake: tuple[Path, Path]) -> None:
    proc, named = fake
    own = put(proc / "thread-self/ns/net")
    put(proc / "1/ns/net", proc / "thread-self/ns/net")
    other = put(proc / "2/ns/net")
    found = discover(proc, named)
    assert list(found) == [own, other]
    assert found[own].path == f"{proc}/thread-self/ns/net"


def test_a_named_namespace_without_processes_is_found(fake: tuple[Path, Path]) -> None:
    proc, named = fake
    put(proc / "thread-self/ns/net")
    lonely = put(named / "blue")
    assert discover(proc, named)[lonely] == Namespace(lonely, f"{named}/blue")


def test_processes_that_ended_and_folders_that_are_none_are_passed_over(fake: tuple[Path, Path]) -> None:
    proc, named = fake
    (proc / "7").mkdir()
    (proc / "8/ns").mkdir(parents=True)
    (proc / "9/ns").mkdir(parents=True)
    (proc / "9/ns/net").symlink_to("net:[4026531840]")
    put(proc / "sys/ns/net")
    put(proc / "12a/ns/net")
    (named / "dangling").symlink_to(named / "nowhere")
    assert discover(proc, named) == {}


def test_without_the_folders_there_are_none(tmp_path: Path) -> None:
    assert discover(tmp_path / "proc", tmp_path / "netns") == {}


def test_the_own_namespace_for_real() -> None:
    assert discover()[inode()] == Namespace(inode(), HERE)


def test_the_own_namespace_needs_no_entering() -> None:
    with entered(Namespace(inode(), "/nowhere")):
        assert inode() > 0


def test_a_namespace_whose_path_is_gone_is_not_entered(tmp_path: Path) -> None:
    before = inode()
    with pytest.raises(FileNotFoundError), entered(Namespace(before + 1, f"{tmp_path}/gone")):
        pytest.fail("entered")
    assert inode() == before


def test_a_file_that_is_no_namespace_is_not_entered(tmp_path: Path) -> None:
    number = put(tmp_path / "file")
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)), entered(Namespace(number, f"{tmp_path}/file")):
        pytest.fail("entered")
    assert os.listdir("/proc/self/fd") == descriptors


def test_a_leftover_file_among_the_named_is_no_namespace(tmp_path: Path) -> None:
    number = put(tmp_path / "leftover")
    assert number not in discover(named=tmp_path)


@pytest.fixture
def named() -> Iterator[Namespace]:
    """A real one that has a name."""
    name = f"tcptrace-test-ns-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield Namespace(inode(f"{NAMED}/{name}"), f"{NAMED}/{name}")
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.mark.kernel
def test_a_named_namespace_is_found_entered_and_left(named: Namespace) -> None:
    home = inode()
    assert named.inode != home
    assert discover()[named.inode] == named
    with entered(named):
        assert inode() == named.inode
        with entered(named):
            assert inode() == named.inode
        assert inode() == named.inode
    assert inode() == home


@pytest.mark.kernel
def test_an_error_inside_leads_home_too(named: Namespace) -> None:
    def fail() -> None:
        with entered(named):
            assert inode() == named.inode
            raise ZeroDivisionError

    home = inode()
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(ZeroDivisionError):
        fail()
    assert inode() == home
    assert os.listdir("/proc/self/fd") == descriptors


@pytest.mark.kernel
def test_only_the_calling_thread_moves(named: Namespace) -> None:
    home = inode()
    inside, leave = threading.Event(), threading.Event()
    seen: list[int] = []

    def visit() -> None:
        with entered(named):
            seen.append(inode())
            inside.set()
            leave.wait(10)
        seen.append(inode())

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        assert inside.wait(10)
        assert inode() == home
    finally:
        leave.set()
        thread.join()
    assert seen == [named.inode, home]


@pytest.mark.kernel
def test_a_path_that_leads_to_another_namespace_by_now_is_not_entered(named: Namespace) -> None:
    home = inode()
    with pytest.raises(FileNotFoundError, match="is gone"), entered(Namespace(named.inode + 1, named.path)):
        pytest.fail("entered")
    assert inode() == home


@pytest.mark.kernel
def test_a_deleted_namespace_is_neither_found_nor_entered(named: Namespace) -> None:
    home = inode()
    subprocess.run(["ip", "netns", "delete", os.path.basename(named.path)], check=True)
    assert named.inode not in discover()
    with pytest.raises(FileNotFoundError), entered(named):
        pytest.fail("entered")
    assert inode() == home


@pytest.mark.kernel
def test_a_deleted_namespace_is_left_all_the_same(named: Namespace) -> None:
    home = inode()
    with entered(named):
        subprocess.run(["ip", "netns", "delete", os.path.basename(named.path)], check=True)
        assert inode() == named.inode
        assert discover()[named.inode].path == HERE
    assert inode() == home


@pytest.mark.kernel
def test_a_namespace_that_has_no_name_is_found_by_its_process() -> None:
    home = inode()
    with subprocess.Popen(["unshare", "--net", "sleep", "60"]) as child:
        try:
            path = f"/proc/{child.pid}/ns/net"
            deadline = time.monotonic() + 10
            while inode(path) == home and time.monotonic() < deadline:
                time.sleep(0.01)
            unnamed = discover()[inode(path)]
            assert unnamed == Namespace(inode(path), path) != discover()[home]
            with entered(unnamed):
                assert inode() == unnamed.inode
        finally:
            child.kill()
    assert inode() == home
    assert unnamed.inode not in discover()
    with pytest.raises(OSError, match=path), entered(unnamed):
        pytest.fail("entered")
