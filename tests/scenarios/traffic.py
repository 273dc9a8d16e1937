"""Healthy traffic of a real web server under load: in all of it there is nothing to tell."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.lab.hosts import Host
from tests.lab.trace import Event
from tests.scenarios.scenario import INTERVAL_S, Lab, Slow, Truth, traced
from tests.scenarios.steps import CONDITIONAL
from tracer.demo.processes import start

SECONDS: Final = "TCPTRACE_TRAFFIC_SECONDS"
"""How long the traffic lasts: ten minutes by hand, seconds where nobody waits so long."""
USUAL_S: Final = 20

CONFIGURATION: Final = """
daemon off; master_process on; worker_processes 2; error_log {folder}/error.log; pid {folder}/pid; user root;
events {{ worker_connections 512; }}
http {{
    access_log off; sendfile on; keepalive_requests 1000000;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    server {{ listen {ip}:{port}; root {folder}/files; }}
    server {{ listen {ip}:{proxy}; location / {{ proxy_pass http://{ip}:{port}; }} }}
}}
"""

SIZES: Final = {"small": 200, "page": 30_000, "image": 500_000, "download": 64_000_000}


@traced(alone=True)
def web_server_under_load(lab: Lab) -> Truth:
    """nginx, also as a proxy of itself, and wrk: small and large answers, kept and short connections. Then a reader stops."""
    seconds = int(os.environ.get(SECONDS, USUAL_S))
    here, there = lab.pair()
    lab.use(_nginx(lab, there))
    loads = [
        lab.use(_wrk(lab, here, seconds, "-c20", f"http://{there.ip}:{lab.port}/small")),
        lab.use(_wrk(lab, here, seconds, "-c10", f"http://{there.ip}:{lab.port + 1}/page")),
        lab.use(_wrk(lab, here, seconds, "-c4", f"http://{there.ip}:{lab.port}/image")),
        lab.use(_wrk(lab, here, seconds, "-c5", "-H", "Connection: close", f"http://{there.ip}:{lab.port}/small")),
    ]
    time.sleep(seconds)
    told = [one["tcptrace"]["verdict"]["summary"] for one in lab.trace.of("verdict-changed")]
    for one in loads:
        one.wait(15)
    # the trace was at work all the time: what is not well is told
    client = lab.actor(here, "lazy")
    client.do(
        "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768);"
        f"s.bind(({here.ip!r}, {lab.port + 5}));"  # one that none of the load's connections had
        f"s.connect(({there.ip!r}, {lab.port})); s.sendall(b'GET /download HTTP/1.0\\r\\n\\r\\n')"
    )
    port = client.do("answer = s.getsockname()[1]")
    lab.stalled(port)
    time.sleep(INTERVAL_S)

    def check(_: list[Event]) -> str:
        return f"{len(told)} alarms: {told[0]}" if told else ""

    return Truth(port, slow=Slow("local", client.pid), forecast=CONDITIONAL, check=check)


@contextmanager
def _nginx(lab: Lab, host: Host) -> Iterator[None]:
    """The server; its workers are the scenario's processes."""
    with tempfile.TemporaryDirectory(prefix="tcptrace-test-") as name:
        folder = Path(name)
        (folder / "files").mkdir()
        for file, size in SIZES.items():
            (folder / "files" / file).write_bytes(bytes(size))
        text = CONFIGURATION.format(folder=folder, ip=host.ip, port=lab.port, proxy=lab.port + 1)
        (folder / "nginx.conf").write_text(text, encoding="utf-8")
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert program is not None, "nginx is not installed"
        child = start([program, "-p", name, "-c", f"{name}/nginx.conf"], host.namespace, stderr=subprocess.DEVNULL)
        try:
            workers = _children(child.pid)
            while len(workers) < 2 and child.poll() is None:
                time.sleep(0.05)
                workers = _children(child.pid)
            assert child.poll() is None, (folder / "error.log").read_text(encoding="utf-8")
            lab.pids |= {child.pid, *workers}
            yield
        finally:
            child.terminate()
            child.wait()


@contextmanager
def _wrk(lab: Lab, host: Host, seconds: int, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A load for so many seconds; it ends with the scenario at the latest."""
    assert shutil.which("wrk"), "wrk is not installed"
    child = start(["wrk", "-t1", f"-d{seconds}s", *arguments], host.namespace, stdout=subprocess.DEVNULL)
    lab.pids.add(child.pid)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _children(pid: int) -> set[int]:
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()}
