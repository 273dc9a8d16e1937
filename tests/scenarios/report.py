"""What came of the scenarios, as tables: each one's truth and what was said of it, the confusion matrix, the totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tests.scenarios.judge import Result
from tests.scenarios.scenario import Expected, Slow


def results_table(results: Sequence[Result]) -> Table:
    """A row a scenario."""
    table = Table(title="scenarios", title_justify="left", header_style="bold")
    for column in ("scenario", "cause", "blamed", "forecast", "off by", ""):
        table.add_column(column, justify="right" if column == "off by" else "left", overflow="fold")
    for one in results:
        truth = one.truth
        table.add_row(
            one.name,
            _told(truth.cause if truth else "?", one.cause),
            _told(_who(truth.slow) if truth else "?", _who(one.slow, truth.slow if truth else None)),
            _told(_what(truth.forecast) if truth else "?", _what(one.forecast)),
            "" if one.error is None else f"{one.error:+.2f} s",
            Text("ok", "green") if one.passed else Text("; ".join(one.wrong), "red"),
        )
    return table


def confusion_matrix(results: Iterable[Result]) -> Table:
    """Expected causes down, told ones across; what was told as it should be stands on the diagonal."""
    pairs = Counter((one.truth.cause, one.cause) for one in results if one.truth)
    expected, told = sorted({pair[0] for pair in pairs}), sorted({pair[1] for pair in pairs})
    table = Table(title="causes: expected (down), told (across)", title_justify="left", header_style="bold")
    table.add_column("")
    names = {cause: str(number) for number, cause in enumerate(sorted({*expected, *told}), 1)}
    for cause in told:
        table.add_column(names[cause], justify="right")
    for cause in expected:
        cells = [_cell(pairs[cause, other], right=cause == other) for other in told]
        table.add_row(f"{names[cause]:>2} {cause}", *cells)
    return table


def totals(results: Sequence[Result]) -> list[str]:
    """The figures that matter, a line each."""
    judged = [one for one in results if one.truth]
    timed = [abs(one.error) for one in judged if one.error is not None]
    unknown = [one for one in judged if one.truth and one.truth.unknown and one.slow.pid is None]
    lines = [
        f"scenarios        {sum(one.passed for one in results)} of {len(results)} right",
        f"causes           {sum(one.cause == one.truth.cause for one in judged if one.truth)} of {len(judged)}",
        f"blamed sides     {sum(one.slow.side == one.truth.slow.side for one in judged if one.truth)} of {len(judged)}",
        f"wrong processes  {sum(len(one.wrong_pids) for one in judged)}",
        f"forecast errors  {len(timed)} timed, at most {max(timed, default=0):.2f} s",
    ]
    lines += [f"unknown, as the kernel gives no way: {one.name}: {one.truth.unknown}" for one in unknown if one.truth]
    return lines


def report(results: Sequence[Result]) -> RenderableType:
    """All of it; behind it the stories that went wrong."""
    stories = [Text(f"\n{one.name}: {'; '.join(one.wrong)}\n{one.story}") for one in results if not one.passed]
    return Group(results_table(results), Text(""), confusion_matrix(results), Text(""), *map(Text, totals(results)), *stories)


def _told(expected: str, got: str) -> Text:
    return Text(expected) if got == expected else Text(f"{expected}, got {got}", "red")


def _who(slow: Slow, like: Slow | None = None) -> str:
    """Only what `like` says: the truth may leave a thread or an address open."""
    pid = slow.pid if like is None or like.pid is not None else None
    tid = slow.tid if like is None or like.tid is not None else None
    return " ".join([slow.side, *(f"{pid}" for _ in [0] if pid), *(f"thread {tid}" for _ in [0] if tid)])


def _what(forecast: Expected) -> str:
    if forecast.outcome == "none":
        return "none"
    return f"{forecast.outcome} by {forecast.by}" + (f" ({forecast.basis})" if forecast.basis != "kernel-timer" else "")


def _cell(number: int, *, right: bool) -> Text:
    return Text(str(number) if number else "·", "green" if right else "red" if number else "dim")
