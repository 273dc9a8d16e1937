"""tcptrace as on a kernel whose tracepoints give no reasons for a RST (before 6.12): every cause has to be inferred."""

from __future__ import annotations

from dataclasses import replace

from tracer.cli import main
from tracer.kernel import layouts
from tracer.kernel.btf import Btf
from tracer.kernel.layouts import Layout

_resolve = layouts.resolve


def resolve(btf: Btf) -> Layout:
    """The running kernel's layout, but for the names of the reasons."""
    return replace(_resolve(btf), reasons={})


if __name__ == "__main__":
    layouts.resolve = resolve
    main()
