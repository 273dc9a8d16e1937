"""What tcptrace said of a scenario, held against the truth."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from tests.lab.trace import Event
from tests.scenarios.scenario import NOBODY, NOTHING, Expected, Slow, Truth, local_port, netns

ERROR_S = 0.3
ERROR_SHARE = 0.02
OVER = frozenset({"reset", "timed-out", "closed"})
ALARMS = frozenset({"backlogged", "stalled", "unanswered"})


@dataclass(frozen=True, slots=True)
class Result:
    """A scenario's outcome: what was expected, what was got, what is wrong with it (nothing, if it passed)."""

    name: str
    truth: Truth | None
    cause: str = "none"
    slow: Slow = NOBODY
    forecast: Expected = NOTHING
    error: float | None = None
    """Seconds from the kernel's deed to the forecast that was furthest off."""
    wrong: tuple[str, ...] = ()
    wrong_pids: tuple[int, ...] = ()
    story: str = ""

    @property
    def passed(self) -> bool:
        return not self.wrong


def judge(name: str, truth: Truth, events: list[Event], pids: set[int], offset: float) -> Result:
    """`events` are all of the scenario's ports, `pids` its processes; `offset` takes CLOCK_MONOTONIC to UTC, in seconds."""
    mine = [one for one in events if local_port(one) == truth.end and truth.netns in (None, netns(one))]
    last = _last_verdict(mine)
    cause, slow, forecast = _cause(mine), _slow(last), _forecast(last)
    error, exact = _error(truth, mine, offset)
    wrong_pids = sorted({*_wrongly_blamed(truth, events), *_wrong_owners(events, pids)})
    wrong = []
    if cause != truth.cause:
        wrong.append(f"cause {cause}")
    if slow.side != truth.slow.side:
        wrong.append(f"blamed side {slow.side}")
    wrong += [
        f"slow reader's {field} {got}"
        for field, got, expected in zip(Slow._fields[1:], slow[1:], truth.slow[1:], strict=True)
        if expected is not None and got != expected and not (got is None and truth.unknown)
    ]
    wrong += [f"process {pid} has nothing to do with it" for pid in wrong_pids]
    if forecast != truth.forecast:
        wrong.append(f"forecast {forecast.outcome} by {forecast.by} ({forecast.basis})")
    if truth.ended is not None and truth.forecast.basis == "kernel-timer" and not exact:
        wrong.append("forecast without a time" if error is None else f"forecast off by {error:.2f} s")
    if truth.quiet:
        wrong += [f"alarm: {one['tcptrace']['verdict']['summary']}" for one in events if _is_alarm(one)]
    particular = truth.check(mine)
    if particular:
        wrong.append(particular)
    return Result(name, truth, cause, slow, forecast, error, tuple(wrong), tuple(wrong_pids))


def _last_verdict(events: list[Event]) -> dict[str, object] | None:
    """The last that was told while the connection lived."""
    verdicts = [one["tcptrace"]["verdict"] for one in events if "verdict" in one["tcptrace"]]
    alive = [one for one in verdicts if one["phase"] not in OVER]
    return alive[-1] if alive else None


def _cause(events: list[Event]) -> str:
    """The cause that was told last."""
    found = [one["tcptrace"]["reset"]["cause"] for one in events if one["tcptrace"].get("reset")]
    return str(found[-1]) if found else "none"


def _slow(verdict: dict[str, object] | None) -> Slow:
    if verdict is None:
        return Slow("none")
    reader = verdict["slow_reader"]
    assert isinstance(reader, dict)
    return Slow(reader["side"], reader["pid"], reader["thread_id"], reader["ip"], reader["port"])


def _forecast(verdict: dict[str, object] | None) -> Expected:
    if verdict is None:
        return Expected("none")
    forecast = verdict["forecast"]
    assert isinstance(forecast, dict)
    return Expected(forecast["outcome"], forecast["by"], forecast["basis"])


def _error(truth: Truth, events: list[Event], offset: float) -> tuple[float | None, bool]:
    """Of the forecasts made since things were steady, the largest error; whether each is as near as it has to be."""
    if truth.ended is None:
        return None, False
    errors, exact = [], True
    for event in events:
        at = _seconds(event["@timestamp"]) - offset
        forecast = event["tcptrace"].get("verdict", {}).get("forecast", {})
        if not truth.steady <= at < truth.ended or forecast.get("by") != truth.forecast.by or forecast["at"] is None:
            continue
        errors.append(_seconds(forecast["at"]) - offset - truth.ended)
        exact = exact and abs(errors[-1]) <= max(ERROR_S, ERROR_SHARE * (truth.ended - at))
    return max(errors, key=abs, default=None), exact and bool(errors)


def _wrongly_blamed(truth: Truth, events: list[Event]) -> set[int]:
    """Processes that were ever blamed at either end, and did nothing."""
    blamed = {one["tcptrace"]["verdict"]["slow_reader"]["pid"] for one in events if "verdict" in one["tcptrace"]}
    return blamed - truth.also - {truth.slow.pid, None}


def _wrong_owners(events: list[Event], pids: set[int]) -> set[int]:
    """Processes that were ever named as the owner of an end, and are not the scenario's."""
    return {one["process"]["pid"] for one in events if "process" in one} - pids


def _is_alarm(event: Event) -> bool:
    return event["event"]["action"] == "verdict-changed" and event["tcptrace"]["verdict"]["phase"] in ALARMS


def _seconds(moment: str) -> float:
    return dt.datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
