"""Notices as OpenTelemetry log records, sent by the official exporter from a thread of its own.

The attributes have the names of the semantic conventions; the body is the document of the event stream. What a receiver is
too slow for, or never takes, is lost and counted; nothing waits for it. The exporter's environment variables
(OTEL_EXPORTER_OTLP_HEADERS, _TIMEOUT, _CERTIFICATE, …) hold.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from tracer import __version__
from tracer.errors import TcptraceError
from tracer.export.ecs import Documents
from tracer.model.findings import ConnectionView, Endpoint, Notice, Owner, Phase, Screen
from tracer.text import count, printable

QUEUE: Final = 4096
"""Records that wait at most; about 40 MB."""
BATCH: Final = 512
DELAY_MS: Final = 500
GOODBYE_S: Final = 2.0
"""What is still queued at the end has this long."""
REASON_AT_MOST: Final = 300
NAMESPACE: Final = "tcptrace"
"""Event names are to be namespaced, for they meet those of other programs."""

_INFO: Final = (SeverityNumber.INFO, "INFO")
_WARN: Final = (SeverityNumber.WARN, "WARN")

Attributes = dict[str, str | int]


class Otlp:
    """An output that sends. `report` is told once that records do not arrive, and at the end how many did not."""

    draws = False

    def __init__(self, endpoint: str, host: str, clock_offset_ns: int, report: Callable[[str], None]) -> None:
        self._documents = Documents(host, clock_offset_ns)
        self._offset = clock_offset_ns
        self._report = report
        self._where = without_secrets(endpoint)
        reasons = _reasons()  # before the exporter, which may have something to say as it is made
        self._exporter = _Counting(_exporter(endpoint), reasons, self._failed)
        if reasons.first:
            report(f"the OTLP exporter says: {reasons.first}")
        self._processor = BatchLogRecordProcessor(
            self._exporter, schedule_delay_millis=DELAY_MS, max_export_batch_size=BATCH, max_queue_size=QUEUE
        )
        self._provider = LoggerProvider(_resource(host), shutdown_on_exit=False)
        self._provider.add_log_record_processor(self._processor)
        self._logger = self._provider.get_logger("tcptrace", __version__)
        self._taken = 0
        self._overflowed = 0
        self._reason: str | None = None

    def lost(self) -> int:
        """Records that are known not to have arrived, so far."""
        return self._overflowed + self._exporter.failed

    def start(self, ns: int, facts: Mapping[str, Any]) -> None:
        """stream-started"""
        self._send("stream-started", ns, _INFO, {}, self._documents.started(ns, facts))

    def take(self, notices: Sequence[Notice]) -> None:
        """A record each."""
        for notice in notices:
            self._send(notice.action, notice.ns, severity(notice), attributes(notice), self._documents.notice(notice))

    def draw(self, screen: Screen) -> None:
        """Nothing: the stream has the events that a screen is made of."""

    def end(self, ns: int, totals: Mapping[str, Any]) -> None:
        """stream-ended; then what is queued has GOODBYE_S to arrive."""
        self._send("stream-ended", ns, _INFO, {}, self._documents.ended(ns, totals))
        # the provider waits 30 s for a receiver that may be dead
        goodbye = threading.Thread(target=self._provider.shutdown, name="otlp-goodbye", daemon=True)
        goodbye.start()
        goodbye.join(GOODBYE_S)
        missing = self._taken - self._exporter.sent
        if missing:
            reason = self._exporter.reasons.first
            why = f": {reason}" if reason and self._reason is None else ""
            self._report(f"{count(missing)} of {count(self._taken)} log records did not arrive at {self._where}{why}")

    def _send(
        self, action: str, ns: int, level: tuple[SeverityNumber, str], names: Attributes, document: Mapping[str, Any]
    ) -> None:
        self._taken += 1
        # the processor's own queue would push the oldest out, and not say how many
        if self._taken - 1 - self._overflowed - self._exporter.handed >= QUEUE:
            self._overflowed += 1
            return
        self._logger.emit(
            timestamp=ns + self._offset,
            observed_timestamp=time.time_ns(),
            severity_number=level[0],
            severity_text=level[1],
            event_name=f"{NAMESPACE}.{action}",
            attributes=names,
            body=known(document),
        )

    def _failed(self, reason: str) -> None:
        if self._reason is None:
            self._reason = reason
            self._report(f"{self._where} does not take log records: {reason}; what it misses is counted")


class _Counting(LogRecordExporter):
    """The official exporter, with its results counted. It runs on the processor's thread."""

    def __init__(self, exporter: LogRecordExporter, reasons: _Reasons, on_failure: Callable[[str], None]) -> None:
        self._exporter = exporter
        self._on_failure = on_failure
        self.reasons = reasons
        self.handed = 0
        self.sent = 0
        self.failed = 0

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self.handed += len(batch)
        self.reasons.first = ""
        try:
            result = self._exporter.export(batch)
        except Exception as error:  # as some releases do where nobody listens
            self.reasons.first = printable(str(error))[:REASON_AT_MOST]
            result = LogRecordExportResult.FAILURE
        if result is LogRecordExportResult.SUCCESS:
            self.sent += len(batch)
        else:
            self.failed += len(batch)
            self._on_failure(self.reasons.first or "no reason given")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        return True


class _Reasons(logging.Handler):
    """Takes what the library would log to stderr, over the table. The first that it says of a batch is what went wrong."""

    first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or printable(record.getMessage())[:REASON_AT_MOST]


def attributes(notice: Notice) -> Attributes:
    """The notice under the names of the semantic conventions; what is unknown is absent."""
    connection = notice.connection
    local = connection.local if connection else notice.local
    peer = connection.peer if connection else notice.peer
    found: Attributes = {}
    if local is not None and peer is not None:
        found |= _network(local, peer)
    if connection is not None:
        found |= _process(connection.owner)
    reset = notice.reset or (connection.reset if connection else None)
    if reset is not None:
        found["error.type"] = reset.cause
    return found


def severity(notice: Notice) -> tuple[SeverityNumber, str]:
    """WARN for what somebody may want to act on: losses, ends that were none in order, verdicts other than all is well."""
    if notice.action == "events-lost" or notice.reset is not None:
        return _WARN
    if notice.action == "verdict-changed" and not _is_well(notice.connection):
        return _WARN
    return _INFO


def known(document: Any) -> Any:
    """A document without its nulls, which not every receiver takes."""
    if isinstance(document, dict):
        return {name: known(value) for name, value in document.items() if value is not None}
    if isinstance(document, list):
        return [known(value) for value in document]
    return document


def without_secrets(url: str) -> str:
    """The URL as it may be shown: without a password, harmless."""
    scheme, mark, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return printable(f"{scheme}{mark}{authority.rpartition('@')[2]}{slash}{path.partition('?')[0]}")


def _network(local: Endpoint, peer: Endpoint) -> Attributes:
    return {
        "network.transport": "tcp",
        "network.type": "ipv6" if ":" in local.ip else "ipv4",
        "network.local.address": local.ip,
        "network.local.port": local.port,
        "network.peer.address": peer.ip,
        "network.peer.port": peer.port,
    }


def _process(owner: Owner) -> Attributes:
    executable = owner.executable
    fields = {
        "process.pid": owner.pid,
        # not the name that a process gives itself: the conventions want that of its file
        "process.executable.name": os.path.basename(executable) if executable else None,
        "process.executable.path": executable,
        "process.command_line": owner.command_line,
        "thread.id": owner.thread_id,
        "thread.name": owner.thread_name,
        "container.id": owner.container,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _is_well(connection: ConnectionView | None) -> bool:
    return connection is None or connection.verdict.phase in (Phase.OK, Phase.CLOSED)


def _exporter(endpoint: str) -> OTLPLogExporter:
    try:
        return OTLPLogExporter(endpoint)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise TcptraceError(f"the OTLP exporter does not start: {error}", "check the variables OTEL_EXPORTER_OTLP_*") from error


def _resource(host: str) -> Resource:
    return Resource.create(
        {
            "service.name": "tcptrace",
            "service.version": __version__,
            "service.instance.id": str(uuid4()),
            "host.name": host,
            "os.type": "linux",
            "os.version": platform.release(),
        }
    )


def _reasons() -> _Reasons:
    handler = _Reasons(logging.WARNING)
    logger = logging.getLogger("opentelemetry")
    logger.addHandler(handler)
    logger.propagate = False
    return handler
