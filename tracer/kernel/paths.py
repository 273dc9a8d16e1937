"""Where the BPF programs' sources are: beside the package when it is installed, at the top of a checkout otherwise."""

from __future__ import annotations

from pathlib import Path

from tracer.errors import TcptraceError


def bpf_dir() -> Path:
    """The folder of records.h and its neighbours. Raises TcptraceError if the installation lacks it."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_bpf", package.parent / "bpf"):
        if (folder / "records.h").is_file():
            return folder
    raise TcptraceError("the BPF programs are not installed with tcptrace", "install it again: sudo scripts/install")
