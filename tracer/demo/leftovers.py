"""What a demo makes on the host, written down before it is made, so that a later run can remove what a killed one left."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tracer.demo import network, processes
from tracer.demo.processes import Identity
from tracer.kernel.namespaces import NAMED

STATE: Final = Path("/run/tcptrace-demo")
_PREFIX: Final = "tcptrace-demo-"
_DRAFT: Final = ".draft"


class Notes:
    """The notes of one run: a file in a folder that only root can write."""

    def __init__(self, root: Path = STATE) -> None:
        owner = processes.identity(os.getpid())
        assert owner is not None
        root.mkdir(mode=0o700, exist_ok=True)
        self._path = root / f"{owner.pid}.json"
        self._owner = owner
        self._children: list[Identity] = []
        self.folder = Path(tempfile.gettempdir(), _PREFIX + secrets.token_hex(8))
        self._write()
        self.folder.mkdir()
        self.folder.chmod(0o755)  # nginx's worker is not root

    def add(self, pids: Iterable[int]) -> None:
        """Processes that were started."""
        self._children += [one for pid in pids if (one := processes.identity(pid)) is not None]
        self._write()

    def remove_all(self) -> list[str]:
        """Ends and removes all that the notes say, then the notes. Says what it did."""
        done = _remove(self._owner.pid, self._children, self.folder)
        self._path.unlink(missing_ok=True)
        return done

    def _write(self) -> None:
        """Whole or not at all: a kill in between must not lose what the notes said before."""
        text = json.dumps({"owner": self._owner, "children": self._children, "folder": str(self.folder)})
        draft = self._path.with_suffix(_DRAFT)
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(self._path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def clean(root: Path = STATE) -> list[str]:
    """Removes what demos left behind that do not run any more. Says what it did."""
    done: list[str] = []
    for path in sorted(root.glob("*.json")):
        try:
            notes = json.loads(path.read_text(encoding="utf-8"))
            owner = Identity(*notes["owner"])
            children = [Identity(*child) for child in notes["children"]]
            folder = Path(notes["folder"])
        except (ValueError, KeyError, TypeError, OSError):
            path.unlink(missing_ok=True)
            done.append(f"removed {path}, which told nothing")
            continue
        if processes.identity(owner.pid) == owner:
            continue
        done += _remove(owner.pid, children, folder)
        path.unlink(missing_ok=True)
    for draft in root.glob(f"*{_DRAFT}"):
        if not (draft.stem.isdigit() and processes.identity(int(draft.stem))):
            draft.unlink(missing_ok=True)
    return done


def _remove(owner: int, children: Iterable[Identity], folder: Path) -> list[str]:
    done = []
    for child in children:
        if processes.identity(child.pid) == child:
            processes.kill(child)
            done.append(f"ended process {child.pid}")
    for name in network.names(owner):
        if (NAMED / name).exists():
            network.remove(name)
            done.append(f"removed namespace {name}")
    if folder.name.startswith(_PREFIX) and folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        done.append(f"removed {folder}")
    return done
