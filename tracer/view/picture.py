"""A screen as an SVG picture, for a README or an incident's report."""

from __future__ import annotations

import io
import re
from typing import Final

from rich.console import Console

from tracer.model.findings import Screen
from tracer.view.table import Header, render

WIDTH: Final = 110
_FONT_FACE: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def svg(screen: Screen, header: Header, title: str, width: int = WIDTH) -> str:
    """The table as a terminal of `width` columns shows it. It asks no other host for fonts, as rich's own would."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(render(screen, header, width))
    return _FONT_FACE.sub("", console.export_svg(title=title))
