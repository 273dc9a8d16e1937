"""tcptrace with a ring buffer of one page, which a few events fill: many are lost, on purpose."""

from __future__ import annotations

from functools import partial

from tracer.cli import main
from tracer.kernel import programs

if __name__ == "__main__":
    programs.Options = partial(programs.Options, ring_pages=1)  # type: ignore[misc, assignment]
    main()
