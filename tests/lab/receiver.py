"""An OTLP/HTTP receiver of log records, made of the official protobufs: what arrived, as plain values."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord


@dataclass(frozen=True, slots=True)
class Log:
    """One record as it was received, with the resource and the scope that it came under."""

    event_name: str
    time_ns: int
    observed_ns: int
    severity: tuple[int, str]
    attributes: dict[str, Any]
    body: Any
    resource: dict[str, Any]
    scope: tuple[str, str]


class Receiver:
    """Answers with `status`; while `hold` is set, only after a second at a time of nothing."""

    def __init__(self) -> None:
        self.logs: list[Log] = []
        self.requests: list[tuple[str, str]] = []
        self.status = 200
        self.hold = threading.Event()
        self._news = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait(self, event_name: str, *, seconds: float = 15.0, where: Callable[[Log], bool] = lambda _: True) -> Log:
        """The first such record, waited for."""
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                for log in self.logs:
                    if log.event_name == event_name and where(log):
                        return log
                left = deadline - time.monotonic()
                assert left > 0, f"no {event_name} within {seconds} s; there were {[log.event_name for log in self.logs]}"
                self._news.wait(left)

    def close(self) -> None:
        """Ends it."""
        self.hold.clear()
        self._server.shutdown()
        self._server.server_close()

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        data = request.rfile.read(int(request.headers["Content-Length"]))
        while self.hold.is_set():
            time.sleep(0.05)
        if request.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        with self._news:
            self.requests.append((request.path, request.headers["Content-Type"]))
            if self.status == 200:
                self.logs += decoded(data)
            self._news.notify_all()
        answer = ExportLogsServiceResponse().SerializeToString()
        request.send_response(self.status)
        request.send_header("Content-Type", "application/x-protobuf")
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port for as long as the block runs."""
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()


def decoded(data: bytes) -> list[Log]:
    """The records of one request. Raises protobuf's DecodeError for what is none."""
    request = ExportLogsServiceRequest.FromString(data)
    return [
        _log(record, pairs(group.resource.attributes), (scope.scope.name, scope.scope.version))
        for group in request.resource_logs
        for scope in group.scope_logs
        for record in scope.log_records
    ]


def _log(record: LogRecord, resource: dict[str, Any], scope: tuple[str, str]) -> Log:
    return Log(
        record.event_name,
        record.time_unix_nano,
        record.observed_time_unix_nano,
        (record.severity_number, record.severity_text),
        pairs(record.attributes),
        value(record.body),
        resource,
        scope,
    )


def pairs(found: Any) -> dict[str, Any]:
    """Key-values as a dict; a key that stands twice fails."""
    assert len({one.key for one in found}) == len(found)
    return {one.key: value(one.value) for one in found if isinstance(one, KeyValue)}


def value(any_value: AnyValue) -> Any:
    """An AnyValue as Python has it."""
    kind = any_value.WhichOneof("value")
    if kind == "kvlist_value":
        return pairs(any_value.kvlist_value.values)
    if kind == "array_value":
        return [value(one) for one in any_value.array_value.values]
    return getattr(any_value, kind) if kind else None
