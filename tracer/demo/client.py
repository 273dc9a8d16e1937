"""The demo's clients. The slow one handles tasks in the thread that reads; the quick one hands them to a pool.

SIGUSR1: the slow one's next task takes for ever. SIGUSR2: it gives up and closes, with all that it has not read.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tracer.demo import websocket
from tracer.demo.processes import name_thread

RECEIVE_BUFFER = 65536


class Client:
    """One client and its connection."""

    def __init__(self, address: str, port: int, *, slow: bool) -> None:
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._sock.connect((address, port))
        websocket.connect(self._sock, f"{address}:{port}", f"/ws/358/{'slow' if slow else 'quick'}/websocket")
        self._pool = None if slow else ThreadPoolExecutor(4)
        self._stuck = threading.Event()
        self._never = threading.Event()
        self._reader_id = threading.Event()
        self.reader = 0

    def start(self) -> None:
        """Reads in a thread of its own, whose id is then `reader`."""
        threading.Thread(target=self._read, daemon=True).start()
        self._reader_id.wait()

    def get_stuck(self) -> None:
        """The next task is one that takes for ever."""
        self._stuck.set()

    def give_up(self) -> None:
        """Closes the connection, whatever is unread."""
        self._sock.close()

    def ready(self) -> str:
        """The line that says who we are."""
        address, port = self._sock.getsockname()
        return json.dumps({"pid": os.getpid(), "reader": self.reader, "address": address, "port": port})

    def _read(self) -> None:
        name_thread("ws-reader")
        self.reader = threading.get_native_id()
        self._reader_id.set()
        pool = self._pool
        handle: Callable[[], object] = self._handle if pool is None else lambda: pool.submit(self._handle)
        try:
            for opcode, _ in websocket.frames(self._sock):
                if opcode == websocket.BINARY:
                    handle()
        except (OSError, websocket.ProtocolError):
            return

    def _handle(self) -> None:
        if self._stuck.is_set() and self._pool is None:
            self._never.wait()
        self._sock.sendall(websocket.frame(websocket.TEXT, b'{"done": true}', masked=True))


def main() -> None:
    """python -m tracer.demo.client ADDRESS PORT slow|quick"""
    slow = sys.argv[3] == "slow"
    name_thread(f"{sys.argv[3]}-client")
    client = Client(sys.argv[1], int(sys.argv[2]), slow=slow)
    client.start()
    signal.signal(signal.SIGUSR1, lambda *_: client.get_stuck())
    signal.signal(signal.SIGUSR2, lambda *_: client.give_up())
    print(client.ready(), flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
