"""Kernel tests need root and BTF. Where they are missing they fail, unless TCPTRACE_NO_KERNEL=1 says otherwise."""

from __future__ import annotations

import os
import signal

import pytest

from tracer.kernel import checks

NO_KERNEL = os.environ.get("TCPTRACE_NO_KERNEL") == "1"


def pytest_configure() -> None:
    """Asked to end, it ends as Ctrl-C ends it: namespaces and processes go."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not NO_KERNEL:
        return
    kernel = [item for item in items if item.get_closest_marker("kernel")]
    items[:] = [item for item in items if not item.get_closest_marker("kernel")]
    config.hook.pytest_deselected(items=kernel)


def pytest_report_header() -> str:
    return "TCPTRACE_NO_KERNEL=1: the kernel tests are left out" if NO_KERNEL else "with the kernel tests"


@pytest.fixture(autouse=True)
def _kernel_or_failure(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("kernel"):
        checks.require()
