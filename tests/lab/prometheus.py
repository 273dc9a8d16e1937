"""A real Prometheus (Debian's), with a configuration and a storage of its own, that scrapes a port once a second."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: tcptrace
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus:
    """Asked by its HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        """The answer's data. Raises AssertionError with what Prometheus says of a request that it refuses."""
        try:
            with urllib.request.urlopen(f"{self._url}{path}?{urllib.parse.urlencode(parameters)}", timeout=5) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an expression, now."""
        result = self.get("/api/v1/query", query=expression)["result"]
        return [(one["metric"], float(one["value"][1])) for one in result]

    def wait(self, expression: str, seconds: float = 15.0) -> list[tuple[dict[str, str], float]]:
        """The same, once it gives any series."""
        deadline = time.monotonic() + seconds
        while not (found := self.query(expression)):
            assert time.monotonic() < deadline, f"{expression} stayed empty; targets: {self.get('/api/v1/targets')}"
            time.sleep(0.2)
        return found


def free_port(ip: str = "127.0.0.1") -> int:
    """A port on which nobody listens."""
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as one:
        one.bind((ip, 0))
        return int(one.getsockname()[1])


@contextmanager
def scraping(port: int, rules: Path, directory: Path) -> Iterator[Prometheus]:
    """Prometheus at work for as long as the block runs. Raises AssertionError with what it logged if it does not start."""
    configuration, log, own_port = directory / "prometheus.yml", directory / "log", free_port()
    configuration.write_text(CONFIGURATION.format(port=port, rules=rules))
    command = [
        "prometheus",
        f"--config.file={configuration}",
        f"--storage.tsdb.path={directory / 'storage'}",
        f"--web.listen-address=127.0.0.1:{own_port}",
    ]
    with log.open("w") as output, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as child:
        try:
            deadline = time.monotonic() + 20
            while not _is_ready(own_port):
                assert child.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield Prometheus(own_port)
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2):
            return True
    except OSError:
        return False
