"""The live table: a screen of the model as styled lines that fit a terminal of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rich.text import Text

from tracer.model.findings import ConnectionView, Phase, Screen
from tracer.text import count, duration
from tracer.view import layout
from tracer.view.rows import ResetRow, Row, reset_row, row

WIDE: Final = 190
"""From this width on a connection is a row of cells, its processes below its ends."""
WIDEST: Final = 250
"""From this width on the processes have columns of their own: for a pipe, where a connection should be one line."""

STYLES: Final = {
    Phase.OK: "green",
    Phase.BACKLOGGED: "yellow",
    Phase.STALLED: "bold magenta",
    Phase.UNANSWERED: "bold red",
    Phase.RESET: "bold white on red",
    Phase.TIMED_OUT: "bold white on red",
    Phase.CLOSED: "dim",
}
_COUNTED: Final = (Phase.OK, Phase.BACKLOGGED, Phase.STALLED, Phase.UNANSWERED)
_RESETS_KEPT: Final = 4
"""Lines that resets get even where connections would fill the screen."""


@dataclass(frozen=True, slots=True)
class Header:
    """What stands around the table: where, for how long, which filters, what is attached."""

    host: str
    running_s: float
    filters: str
    attached: int
    wanted: int
    missing: tuple[str, ...] = ()


class _Column(NamedTuple):
    title: str
    field: str
    width: int
    right: bool = False


_PROCESSES: Final = (_Column("PROCESS", "process", 28), _Column("PEER PROCESS", "peer_process", 28))
_COLUMNS: Final = (
    _Column("PHASE", "phase", 10),
    _Column("ENDS IN", "ends", 11),
    _Column("LOCAL", "local", 21),
    _Column("PEER", "peer", 21),
    _Column("SLOW READER", "slow_reader", 30),
    _Column("RECV-Q", "recv_q", 9, right=True),
    _Column("SEND-Q", "send_q", 9, right=True),
    _Column("RCV/SND WND", "windows", 13, right=True),
    _Column("TIMER", "timer", 18),
    _Column("STALLED", "stalled", 9, right=True),
)


def render(screen: Screen, header: Header, width: int, height: int | None = None) -> Text:
    """The screen as text of at most `width` columns and `height` lines (None: as many as it takes)."""
    top = [*_header(screen, header, width), Text("")]
    bottom = _footer(screen, header, width)
    resets = _resets(screen, width)
    # each takes a line at least, so more than there are lines would be laid out for nothing
    shown = screen.connections[:height]
    cards = _wide(shown, screen.ns, width) if width >= WIDE else _narrow(shown, screen.ns, width)
    if not screen.connections:
        cards = [[_plain("  nothing heads toward a reset", width, "dim")]]
    if height is not None:
        room = height - len(top) - len(bottom)
        kept = min(len(resets), max(_RESETS_KEPT, room - sum(len(card) for card in cards)), max(0, room - 1))
        cards = _fit_cards(cards, room - kept, width, len(screen.connections) - len(shown))
        resets = _fit_lines(resets, kept, width)
    lines = top + [line for card in cards for line in card] + resets + bottom
    return Text("\n", no_wrap=True, overflow="crop").join(lines[:height])


def _header(screen: Screen, header: Header, width: int) -> list[Text]:
    first = f"tcptrace on {header.host}, {duration(header.running_s)}, {header.filters}"
    counts = Text()
    for phase in _COUNTED:
        if counts:
            counts.append("  ")
        number = screen.by_phase.get(phase, 0)
        counts.append(f"{phase.value} {count(number)}", STYLES[phase] if number else "dim")
    counts.truncate(width)
    return [_plain(first, width, "bold"), counts]


def _footer(screen: Screen, header: Header, width: int) -> list[Text]:
    lost = screen.ring_buffer_lost
    parts = [f"{count(screen.events)} events", f"{count(lost)} lost"]
    if screen.table_full:
        parts.append(f"{count(screen.table_full)} sockets untracked (table full)")
    if header.wanted:  # a recording without its beginning does not tell
        parts.append(f"{header.attached} of {header.wanted} tracepoints")
    if header.missing:
        parts.append("missing: " + ", ".join(header.missing))
    style = "bold red" if lost or screen.table_full or header.missing else "dim"
    return [_plain(line, width, style) for line in layout.wrap(", ".join(parts), width)]


def _wide(shown: Sequence[ConnectionView], ns: int, width: int) -> list[list[Text]]:
    """A heading, then a row a connection; evidence that is longer goes on below itself."""
    columns = _COLUMNS if width < WIDEST else (*_COLUMNS[:4], *_PROCESSES, *_COLUMNS[4:])
    used = sum(column.width + 1 for column in columns)
    heading = " ".join(layout.fit(c.title, c.width, right=c.right) for c in columns)
    cards = [[_plain(f"{heading} EVIDENCE", width, "bold")]]
    for connection in shown:
        one = row(connection, ns)
        evidence = list(layout.wrap(one.evidence, width - used)) or [""]
        line = Text(f"{_cells(one, columns)} {evidence[0]}")
        line.stylize(STYLES[connection.verdict.phase], 0, columns[0].width)
        below = [f"{'':{used}}{more}" for more in evidence[1:]]
        if width < WIDEST:
            processes = f"{'':23}{layout.fit(one.process, 21)} {layout.fit(one.peer_process, 21)}"
            below[:1] = [f"{layout.fit(processes, used)}{evidence[1] if len(evidence) > 1 else ''}"]
        cards.append([line, *map(Text, below)])
    return cards


def _cells(one: Row, columns: Sequence[_Column]) -> str:
    return " ".join(layout.fit(getattr(one, c.field), c.width, right=c.right) for c in columns)


def _narrow(shown: Sequence[ConnectionView], ns: int, width: int) -> list[list[Text]]:
    """A card a connection: which and how long, its queues and timer, then the words."""
    cards = []
    for connection in shown:
        one = row(connection, ns)
        ends = f"{one.local} > {one.peer}"
        first = Text(layout.fit(one.phase, 10), STYLES[connection.verdict.phase])
        room = max(0, width - 10 - 1 - 11 - 1 - 1 - 9)
        first.append(
            f" {layout.fit(one.ends, 11)} {layout.fit(ends, room)} {layout.fit(one.stalled, 9, right=True)}", "default"
        )
        first.truncate(width)
        card = [first, _plain(f"  {one.process} > {one.peer_process}", width)]
        if one.slow_reader != "-":
            card.append(_plain(f"  slow reader: {one.slow_reader}", width, "bold"))
        facts = f"  Recv-Q {one.recv_q}  Send-Q {one.send_q}  windows {one.windows}  {one.timer}"
        card.append(_plain(facts, width))
        card += [_plain("  " + line, width) for line in layout.wrap(one.summary, max(1, width - 2))]
        cards.append(card)
    return cards


def _resets(screen: Screen, width: int) -> list[Text]:
    if not screen.resets:
        return []
    lines = [Text(""), _plain(f"resets and time-outs of the last minute: {count(len(screen.resets))}", width, "bold")]
    for notice in reversed(screen.resets):
        one = reset_row(notice, screen.ns)
        lines += [_plain(line, width) for line in _reset_lines(one, width)]
    return lines


def _reset_lines(one: ResetRow, width: int) -> list[str]:
    who = f"{one.process} {one.local} > {one.peer}"
    what = f"{one.direction} {one.cause}"
    unread = f", {one.unread}" if one.unread else ""
    if width >= WIDE:
        return [f"  {layout.fit(one.ago, 14)} {what}  {who}{unread}"]
    return [f"  {layout.fit(one.ago, 10)} {what}{unread}", f"             {who}"]


def _fit_cards(cards: list[list[Text]], room: int, width: int, unseen: int) -> list[list[Text]]:
    """As many whole cards as there is room for; those left out are counted, with the `unseen` that have none."""
    if sum(len(card) for card in cards) <= room:
        return cards
    kept: list[list[Text]] = []
    used = 1  # the line that counts the rest
    for card in cards:
        if used + len(card) > room:
            break
        kept.append(card)
        used += len(card)
    if not kept and room > 1 and cards:
        kept = [cards[0][: room - 1]]
    left = len(cards) - len(kept) + unseen
    return [*kept, [_plain(f"  … and {count(left)} more", width, "dim")]] if room > 0 else []


def _fit_lines(lines: list[Text], room: int, width: int) -> list[Text]:
    if len(lines) <= room:
        return lines
    return [*lines[: room - 1], _plain("  … and older ones", width, "dim")] if room > 0 else []


def _plain(text: str, width: int, style: str = "") -> Text:
    return Text(layout.shorten(text, width), style, no_wrap=True)
