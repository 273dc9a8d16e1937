"""The HTTP server that Prometheus scrapes: the official client's application, on a thread of its own."""

from __future__ import annotations

import errno
import os
import socket
import socketserver
import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.process_collector import ProcessCollector

from tracer.errors import TcptraceError
from tracer.text import hostport

if TYPE_CHECKING:
    from prometheus_client.registry import Collector
    from typing_extensions import Self

ATONCE_AT_MOST: Final = 8
TIMEOUT_S: Final = 5.0
"""Whoever connects and says nothing is sent away after this."""


class Scrapes:
    """Serves `collector`, and the client's own figures of this process, at ip:port while the block runs.

    Raises TcptraceError if that address cannot be had.
    """

    def __init__(self, ip: str, port: int, collector: Collector) -> None:
        registry = CollectorRegistry()
        registry.register(collector)
        ProcessCollector(registry=registry)
        try:
            self._server = _server(ip)((ip, port), _Handler)
        except OSError as error:
            raise _refused(hostport(ip, port), error) from error
        self._server.set_app(make_wsgi_app(registry))
        self._thread = threading.Thread(target=self._server.serve_forever, name="scrapes", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(WSGIRequestHandler):
    timeout = TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the terminal is the table's."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread a request, but only so many: a scraper has one."""

    daemon_threads = True
    _free = threading.BoundedSemaphore(ATONCE_AT_MOST)

    def server_bind(self) -> None:
        # not HTTPServer's, which asks the DNS for this host's name
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that went away is no news."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def _server(ip: str) -> type[_Server]:
    return _Server6 if ip_address(ip).version == 6 else _Server


def _refused(address: str, error: OSError) -> TcptraceError:
    port = address.rpartition(":")[2]
    remedies = {
        errno.EADDRINUSE: f"give --metrics another port, or end what listens there: `ss -ltnp sport = {port}` names it",
        errno.EADDRNOTAVAIL: "give --metrics an address of this host: `ip -br address` lists them",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE; give --metrics a higher one",
    }
    why = os.strerror(error.errno) if error.errno else str(error)
    return TcptraceError(
        f"metrics cannot be served at {address}: {why}", remedies.get(error.errno or 0, "give --metrics another address")
    )
