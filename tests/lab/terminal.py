"""A real terminal of a given size, by tmux: what a person sees, and types."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.lab.trace import ROOT


class Terminal:
    """A tmux window on a server of its own."""

    def __init__(self, server: str) -> None:
        self._server = server

    def screen(self) -> list[str]:
        """The lines as they stand."""
        return self._tmux("capture-pane", "-p", "-t", "lab").split("\n")

    def keys(self, *keys: str) -> None:
        """Typed, in tmux's names: C-c, Enter, …"""
        self._tmux("send-keys", "-t", "lab", *keys)

    def resize(self, columns: int, lines: int) -> None:
        """The window gets another size."""
        self._tmux("resize-window", "-t", "lab", "-x", str(columns), "-y", str(lines))

    def cursor_is_visible(self) -> bool:
        """Whether the cursor shows."""
        return self._tmux("display-message", "-p", "-t", "lab", "#{cursor_flag}").strip() == "1"

    def wait(self, wanted: Callable[[list[str]], bool], seconds: float = 15.0) -> list[str]:
        """The screen as soon as it is as wanted. Raises AssertionError with what it was instead."""
        deadline = time.monotonic() + seconds
        while True:
            lines = self.screen()
            if wanted(lines):
                return lines
            if time.monotonic() >= deadline:
                raise AssertionError("the screen is:\n" + "\n".join(lines))
            time.sleep(0.05)

    def _tmux(self, *arguments: str) -> str:
        return subprocess.run(["tmux", "-L", self._server, *arguments], capture_output=True, text=True, check=True).stdout


@contextmanager
def terminal(command: list[str], columns: int, lines: int) -> Iterator[Terminal]:
    """A terminal that runs the command in a shell, which then tells its exit code and whether it still echoes."""
    server = f"tcptrace-test-{os.getpid()}"
    script = f"cd {shlex.quote(str(ROOT))}; {shlex.join(command)}; echo exit $?; stty -a | grep -ow -- '-*echo'; cat"
    environment = {**os.environ, "TERM": "screen-256color", "LC_ALL": "C.UTF-8"}
    subprocess.run(
        [
            "tmux",
            "-L",
            server,
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-s",
            "lab",
            "-x",
            str(columns),
            "-y",
            str(lines),
            script,
        ],
        check=True,
        env=environment,
    )
    try:
        yield Terminal(server)
    finally:
        subprocess.run(["tmux", "-L", server, "kill-server"], check=False, capture_output=True)
