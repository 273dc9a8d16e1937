"""The demo's nginx: its own configuration in its own folder, apart from any other nginx of the host; and its error log."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tracer.demo import processes
from tracer.errors import TcptraceError
from tracer.kernel.namespaces import Namespace
from tracer.text import printable

_CONFIGURATION: Final = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    send_timeout {send_timeout};
    server {{
        listen {address}:{port};
        location /ws/ {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
        }}
    }}
}}
"""

_ERROR: Final = re.compile(
    r"(?P<time>\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(?P<level>\w+)\] \d+#\d+: \*\d+ (?P<message>.*?), client: (?P<client>[^,]+),"
)
_ERRNO: Final = re.compile(r"\((\d+): ")


@dataclass(frozen=True, slots=True)
class NginxError:
    """A line of the error log about a client. `epoch_s`: its time, which nginx writes in whole seconds."""

    epoch_s: float
    errno: int | None
    message: str
    client: str
    line: str


class Nginx:
    """A running nginx with one worker."""

    def __init__(self, folder: Path, namespace: Namespace, address: str, port: int, upstream: str, send_timeout_s: int) -> None:
        """Starts it. Raises TcptraceError if there is none, or it does not come up."""
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None:
            raise TcptraceError("the demo needs nginx", "apt-get install nginx-light, or run sudo scripts/demo")
        self._log = folder / "error.log"
        configuration = folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=folder, address=address, port=port, upstream=upstream, send_timeout=f"{send_timeout_s}s"
            ),
            encoding="utf-8",
        )
        self._master = processes.start(
            [program, "-p", str(folder), "-c", str(configuration), "-e", str(self._log)],
            namespace,
            death=signal.SIGTERM,  # the master then ends its worker; killed, it would leave it behind
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.worker = self._find_worker()

    @property
    def pids(self) -> tuple[int, int]:
        """Master and worker."""
        return self._master.pid, self.worker

    def errors(self) -> list[NginxError]:
        """What it has logged about clients so far."""
        lines = self._log.read_bytes().splitlines() if self._log.exists() else []
        return [error for line in lines if (error := parse(printable(line))) is not None]

    def stop(self) -> None:
        """Ends it."""
        if self._master.poll() is None:
            self._master.terminate()
        try:
            self._master.wait(5)
        except subprocess.TimeoutExpired:
            self._master.kill()
            self._master.wait()

    def _find_worker(self) -> int:
        children = Path(f"/proc/{self._master.pid}/task/{self._master.pid}/children")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self._master.poll() is None:
            found = children.read_text(encoding="ascii").split()
            if found and Path(f"/proc/{found[0]}/cmdline").read_bytes().startswith(b"nginx: worker"):
                return int(found[0])
            time.sleep(0.02)
        log = self._log.read_text("utf-8", "replace").strip() if self._log.exists() else ""
        raise TcptraceError(f"nginx did not start: {printable(log) or 'it logged nothing'}", "run `nginx -V`", 1)


def parse(line: str) -> NginxError | None:
    """An error-log line about a client; None for any other."""
    found = _ERROR.match(line)
    if found is None:
        return None
    try:
        epoch = time.mktime(time.strptime(found["time"], "%Y/%m/%d %H:%M:%S"))
    except ValueError:
        return None
    number = _ERRNO.search(found["message"])
    return NginxError(epoch, int(number[1]) if number else None, found["message"], found["client"], line)
