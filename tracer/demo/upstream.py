"""The demo's server behind nginx: pushes tasks to every client, at a steady rate, for as long as it reads."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from typing import Final

from tracer.demo import websocket
from tracer.demo.processes import name_thread

TASK_BYTES: Final = 8192
TASKS_A_SECOND: Final = 60


def main() -> None:
    """python -m tracer.demo.upstream ADDRESS PORT"""
    name_thread("ws-upstream")
    listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
    print(json.dumps({"pid": os.getpid()}), flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_serve, args=(sock,), daemon=True).start()


def _serve(sock: socket.socket) -> None:
    try:
        websocket.accept(sock)
        threading.Thread(target=_take_results, args=(sock,), daemon=True).start()
        task = websocket.frame(websocket.BINARY, bytes(TASK_BYTES), masked=False)
        while True:
            sock.sendall(task)
            time.sleep(1 / TASKS_A_SECOND)
    except (OSError, websocket.ProtocolError):
        sock.close()


def _take_results(sock: socket.socket) -> None:
    try:
        for _ in websocket.frames(sock):
            pass
    except (OSError, websocket.ProtocolError):
        return


if __name__ == "__main__":
    main()
