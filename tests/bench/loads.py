"""Healthy traffic between two hosts: nginx answering wrk, and one iperf3 stream. Each run ends by itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.lab.hosts import Host
from tracer.demo.processes import start

WEB_PORT: Final = 8080
BULK_PORT: Final = 5201

_NGINX: Final = """
daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home}; uwsgi_temp_path {home}; scgi_temp_path {home};
  server {{ listen {port} reuseport; location / {{ return 200 "a small answer, as many are\\n"; }} }}
}}
"""


@contextmanager
def nginx(host: Host) -> Iterator[None]:
    """A web server on WEB_PORT with small answers over connections that are kept."""
    home = Path(tempfile.mkdtemp(prefix="tcptrace-bench-"))
    (home / "conf").write_text(_NGINX.format(home=home, port=WEB_PORT), encoding="utf-8")
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    child = start([program, "-e", str(home / "error.log"), "-c", str(home / "conf")], host.namespace)
    try:
        _until_listening(host, WEB_PORT)
        yield
    finally:
        child.terminate()
        child.wait()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def iperf3(host: Host) -> Iterator[None]:
    """An iperf3 server on BULK_PORT."""
    child = start(["iperf3", "-s", "-p", str(BULK_PORT)], host.namespace, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _until_listening(host, BULK_PORT)
        yield
    finally:
        child.terminate()
        child.wait()


def requests(client: Host, server: Host, seconds: int) -> float:
    """Requests a second that wrk gets answered over 32 connections."""
    out = client.run("wrk", "-t1", "-c32", f"-d{seconds}s", f"http://{server.ip}:{WEB_PORT}/")
    found = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert found is not None, out
    return float(found[1])


def bulk(client: Host, server: Host, seconds: int) -> float:
    """Gbit/s of one stream."""
    out = client.run("iperf3", "-c", server.ip, "-p", str(BULK_PORT), "-t", str(seconds), "-J")
    return float(json.loads(out)["end"]["sum_received"]["bits_per_second"]) / 1e9


def _until_listening(host: Host, port: int, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while f":{port} " not in host.run("ss", "-tlnH"):
        if time.monotonic() > deadline:
            raise AssertionError(f"nobody listens on port {port}")
        time.sleep(0.02)
