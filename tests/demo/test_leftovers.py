"""The notes of a demo: what a killed one left is removed by the next, and nothing that is not its own."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tracer.demo import leftovers, network, processes
from tracer.demo.leftovers import Notes
from tracer.demo.processes import Identity, identity
from tracer.kernel.namespaces import NAMED

OWN = identity(os.getpid()) or Identity(0, 0)
NOWHERE = Path("/nowhere")
"""No folder to remove; an empty path would be the checkout itself."""
GONE = Identity(2**22 + 1, 12345)
"""A process that no kernel has."""
REBORN = Identity(os.getpid(), OWN.start - 1)
"""One that is gone, and whose pid is ours now."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the notes are; the folders of demos are beside it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / "notes"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        yield sleeper
        sleeper.kill()


def note(root: Path, owner: Identity = GONE, children: Any = (), folder: Path = NOWHERE, name: str = "1.json") -> Path:
    """Notes that somebody left."""
    root.mkdir(exist_ok=True)
    path = root / name
    path.write_text(json.dumps({"owner": owner, "children": children, "folder": str(folder)}))
    return path


def folder_of(root: Path, name: str = "tcptrace-demo-x") -> Path:
    """A demo's folder with something in it."""
    folder = root.parent / name
    folder.mkdir(exist_ok=True)
    (folder / "nginx.conf").touch()
    return folder


def test_a_demo_that_ends_well_leaves_nothing(root: Path, child: subprocess.Popen[bytes]) -> None:
    notes = Notes(root)
    notes.add([child.pid])
    (notes.folder / "error.log").touch()
    assert notes.folder.name.startswith("tcptrace-demo-") and len(list(root.iterdir())) == 1
    assert notes.remove_all() == [f"ended process {child.pid}", f"removed {notes.folder}"]
    assert child.wait(10) == -signal.SIGKILL
    assert list(root.iterdir()) == [] and not notes.folder.exists()
    assert notes.remove_all() == []


def test_only_its_owner_reads_the_notes_and_everyone_the_folder(root: Path) -> None:
    notes = Notes(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE(notes.folder.stat().st_mode) == 0o755


def test_what_a_killed_demo_left_is_removed(root: Path, child: subprocess.Popen[bytes]) -> None:
    folder = folder_of(root)
    path = note(root, GONE, [identity(child.pid)], folder)
    assert leftovers.clean(root) == [f"ended process {child.pid}", f"removed {folder}"]
    assert child.wait(10) == -signal.SIGKILL
    assert not folder.exists() and not path.exists()
    assert leftovers.clean(root) == []


def test_a_demo_whose_pid_another_process_has_now_is_gone(root: Path) -> None:
    folder = folder_of(root)
    note(root, REBORN, (), folder)
    assert leftovers.clean(root) == [f"removed {folder}"]


def test_a_demo_that_still_runs_is_left_alone(root: Path, child: subprocess.Popen[bytes]) -> None:
    notes = Notes(root)
    notes.add([child.pid])
    assert leftovers.clean(root) == []
    assert child.poll() is None and notes.folder.is_dir() and len(list(root.iterdir())) == 1


def test_a_process_that_has_the_pid_of_a_child_now_is_left_alone(root: Path, child: subprocess.Popen[bytes]) -> None:
    now = identity(child.pid)
    assert now is not None
    note(root, GONE, [Identity(child.pid, now.start - 1), GONE])
    assert leftovers.clean(root) == []
    assert child.poll() is None


def test_what_was_never_started_is_not_noted(root: Path) -> None:
    notes = Notes(root)
    notes.add([GONE.pid])
    (path,) = root.iterdir()
    assert json.loads(path.read_text())["children"] == []


@pytest.mark.parametrize("name", ["precious", "tcptrace", "demo-tcptrace-demo-x"])
def test_a_folder_that_is_no_demos_is_left_alone(root: Path, name: str) -> None:
    folder = folder_of(root, name)
    note(root, GONE, (), folder)
    assert leftovers.clean(root) == []
    assert (folder / "nginx.conf").exists()


def test_a_link_to_a_folder_is_not_followed(root: Path) -> None:
    precious = folder_of(root, "precious")
    link = root.parent / "tcptrace-demo-link"
    link.symlink_to(precious)
    note(root, GONE, (), link)
    leftovers.clean(root)
    assert (precious / "nginx.conf").exists()


def test_without_notes_there_is_nothing_to_do(root: Path) -> None:
    assert leftovers.clean(root) == []
    root.mkdir()
    assert leftovers.clean(root) == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe\x00",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"{}",
        b'{"owner": [1], "children": [], "folder": "/nowhere"}',
        b'{"owner": [4194305, 1, 2], "children": [], "folder": "/nowhere"}',
        b'{"owner": [4194305, 1], "children": 7, "folder": "/nowhere"}',
        b'{"owner": [4194305, 1], "children": [[1]], "folder": "/nowhere"}',
        b'{"owner": [4194305, 1], "children": [], "folder": 7}',
        b'{"owner": [4194305, 1], "children": []}',
    ],
)
def test_notes_that_tell_nothing_are_removed_and_those_beside_them_obeyed(root: Path, text: bytes) -> None:
    folder = folder_of(root)
    note(root, GONE, (), folder, "2.json")
    broken = root / "1.json"
    broken.write_bytes(text)
    assert leftovers.clean(root) == [f"removed {broken}, which told nothing", f"removed {folder}"]
    assert list(root.iterdir()) == []


@contextmanager
def full_disk() -> Iterator[None]:
    """No file gets longer than ten bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_notes_that_cannot_be_added_to_stay_as_they_were(root: Path) -> None:
    notes = Notes(root)
    (path,) = root.glob("*.json")
    before = path.read_bytes()
    with full_disk(), pytest.raises(OSError, match="File too large"):
        notes.add([os.getpid()])
    assert path.read_bytes() == before
    assert list(root.iterdir()) == [path]


def test_half_written_notes_of_a_killed_demo_are_removed_and_those_of_a_running_one_are_not(root: Path) -> None:
    root.mkdir()
    for name in (f"{GONE.pid}.draft", f"{os.getpid()}.draft", "x.draft"):
        (root / name).write_text('{"owner"')
    assert leftovers.clean(root) == []
    assert [path.name for path in root.iterdir()] == [f"{os.getpid()}.draft"]


def test_a_demo_that_cannot_write_its_notes_makes_nothing(root: Path) -> None:
    root.mkdir()
    with full_disk(), pytest.raises(OSError, match="File too large"):
        Notes(root)
    assert list(root.iterdir()) == [] and list(root.parent.iterdir()) == [root]


@pytest.mark.kernel
def test_the_namespaces_of_a_killed_demo_are_removed(root: Path) -> None:
    notes = note(root, GONE)
    try:
        network.build(GONE.pid)
        names = network.names(GONE.pid)
        assert all((NAMED / name).exists() for name in names)
        assert leftovers.clean(root) == [f"removed namespace {name}" for name in names]
        assert not any((NAMED / name).exists() for name in names) and not notes.exists()
    finally:
        for name in network.names(GONE.pid):
            network.remove(name)


def test_a_process_is_only_ended_while_it_is_the_same(child: subprocess.Popen[bytes]) -> None:
    now = identity(child.pid)
    assert now is not None and now.start > 0
    processes.kill(now._replace(start=now.start + 1), signal.SIGKILL)
    processes.kill(now, signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
    assert identity(child.pid) is None
