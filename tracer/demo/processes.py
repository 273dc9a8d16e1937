"""The demo's child processes: started in a namespace, told from others by their start time, never outliving the demo."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tracer.errors import TcptraceError
from tracer.kernel.namespaces import Namespace, entered

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_libc = ctypes.CDLL(None, use_errno=True)


class Identity(NamedTuple):
    """A process that cannot be mistaken for a later one with the same pid. `start`: clock ticks since boot."""

    pid: int
    start: int


def identity(pid: int) -> Identity | None:
    """The identity of the process that has this pid now."""
    try:
        data = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return Identity(pid, int(data[data.rfind(b")") + 2 :].split()[19]))


def kill(process: Identity, number: int = signal.SIGKILL) -> None:
    """Signals the process if it is still the same one."""
    if identity(process.pid) == process:
        os.kill(process.pid, number)


def start(
    command: Sequence[str], namespace: Namespace, *, death: int = signal.SIGKILL, **options: Any
) -> subprocess.Popen[bytes]:
    """Starts a program in a network namespace. It gets the signal `death` when we die, however we do.

    It is in a session of its own: Ctrl-C is for us, who end the play in order.
    """
    parent = os.getpid()

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, death)
        if os.getppid() != parent:
            os._exit(1)  # it died before we asked

    with entered(namespace):
        options = {"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
        return subprocess.Popen(command, preexec_fn=prepare, **options)


def start_module(module: str, arguments: Sequence[str], namespace: Namespace) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Starts one of the demo's own programs, and waits for the line of JSON with which it says that it is ready."""
    path = str(Path(__file__).resolve().parents[2])
    child = start(
        [sys.executable, "-m", module, *arguments],
        namespace,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    return child, ready(child, module)


def ready(child: subprocess.Popen[bytes], name: str, seconds: float = 10.0) -> dict[str, Any]:
    """The line of JSON that the child writes when it is ready. Raises TcptraceError if it does not come."""
    assert child.stdout is not None
    deadline = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n") and (left := deadline - time.monotonic()) > 0:
        if select.select([child.stdout], [], [], left)[0]:
            chunk = os.read(child.stdout.fileno(), 4096)
            if not chunk:
                break
            line += chunk
    try:
        answer = json.loads(line)
    except ValueError:
        raise TcptraceError(f"{name} did not start", "run the demo again; it tells what it prints", 1) from None
    assert isinstance(answer, dict)
    return answer


def name_thread(name: str) -> None:
    """Names the calling thread; of the main thread, the process."""
    _libc.prctl(_PR_SET_NAME, name.encode()[:15])
