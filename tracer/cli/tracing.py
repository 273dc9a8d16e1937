"""Start-up, shared by the commands that trace: checks, BTF, programs; and the clock that takes kernel times to UTC."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import click

from tracer.cli.options import Filters
from tracer.errors import TcptraceError
from tracer.kernel import checks, layouts, paths, programs
from tracer.kernel.btf import Btf, BtfError


@dataclass(frozen=True, slots=True)
class Tracing:
    """Programs at work, and the kernel that they are at work on."""

    programs: programs.Programs
    layout: layouts.Layout


@contextmanager
def attached(filters: Filters, modules: Sequence[str] = ()) -> Iterator[Tracing]:
    """The programs attached for as long as the block runs. Raises TcptraceError with what is missing.

    `modules` are imported meanwhile: the compiler takes most of the start, and none of Python's lock.
    """
    checks.require()
    with progress("attaching to the kernel"):
        tracing = _attach(filters, modules)
    try:
        yield tracing
    finally:
        tracing.programs.close()


def _attach(filters: Filters, modules: Sequence[str]) -> Tracing:
    try:
        layout = layouts.resolve(Btf.load())
    except (OSError, BtfError) as error:
        raise TcptraceError(f"the kernel's BTF cannot be read: {error}", "run `tcptrace doctor`") from error
    options = programs.Options(filters.ports, filters.selection.everything)
    absent = {name: found for name, found in layout.tracepoints.items() if isinstance(found, checks.Missing)}
    imports = threading.Thread(target=_import, args=(modules,))
    imports.start()
    try:
        loaded = programs.load(layout, options, paths.bpf_dir(), absent)
    finally:
        imports.join()
    try:
        programs.calibrate()
    except BaseException:
        loaded.close()
        raise
    return Tracing(loaded, layout)


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Says on a terminal what takes a moment, for as long as it does."""
    if not sys.stderr.isatty():
        yield
        return
    text = f"tcptrace: {what} …"
    click.echo(f"{text}", nl=False, err=True)
    try:
        yield
    finally:
        click.echo(f"\r{'':{len(text)}}\r", nl=False, err=True)


def _import(modules: Sequence[str]) -> None:
    for name in modules:
        importlib.import_module(name)


@cache  # a stream says which it is, and its times have to agree with that
def clock_offset_ns() -> int:
    """What takes CLOCK_MONOTONIC to UTC, as it was when this was first asked."""
    return time.time_ns() - time.monotonic_ns()
