"""Plays scenarios, several at a time under one trace, and holds what was said against the truth."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from tests.lab.trace import Trace, brief, watching
from tests.scenarios.judge import Result, judge
from tests.scenarios.scenario import FIRST_PORT, INTERVAL_S, PORTS_EACH, Lab, Scenario, Truth, local_port, netns

AT_ONCE = 8
TRACES_AT_ONCE = 3


def run(
    scenarios: Sequence[Scenario],
    done: Callable[[Result], None] = lambda _: None,
    at_once: int = AT_ONCE,
    *,
    reasonless: bool = False,
) -> list[Result]:
    """All of them, in their order; `done` is told of each as it ends. `reasonless`: the kernel's reasons are withheld."""
    program = "tests.lab.reasonless" if reasonless else "tracer"
    numbered = list(enumerate(scenarios))
    shared = [(number, one) for number, one in numbered if one.own_trace is None]
    apart = [(number, one) for number, one in numbered if one.own_trace is not None and not one.alone]
    alone = [(number, one) for number, one in numbered if one.alone]
    results: dict[int, Result] = {}
    if shared:
        ports = f"{FIRST_PORT}-{FIRST_PORT + len(numbered) * PORTS_EACH - 1}"
        with watching("--port", ports, program=program) as trace, _threads(at_once) as pool:
            played = {number: pool.submit(_play, number, one, trace, done) for number, one in shared}
            results |= {number: future.result() for number, future in played.items()}
    with _threads(TRACES_AT_ONCE) as pool:
        played = {number: pool.submit(_play_apart, number, one, program, done) for number, one in apart}
        results |= {number: future.result() for number, future in played.items()}
    for number, one in alone:
        results[number] = _play_apart(number, one, program, done)
    return [results[number] for number, _ in numbered]


@contextmanager
def _threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """So many at a time; what has not begun when it is interrupted does not begin."""
    pool = ThreadPoolExecutor(number)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _play_apart(number: int, one: Scenario, program: str, done: Callable[[Result], None]) -> Result:
    """Under a trace of its own."""
    first = FIRST_PORT + number * PORTS_EACH
    trace = Trace("--port", f"{first}-{first + PORTS_EACH - 1}", *(one.own_trace or ()), program=one.program or program)
    try:
        trace.wait("stream-started")
        result = _play(number, one, trace, done)
        trace.stop()
        return result
    finally:
        trace.abandon()


def _play(number: int, one: Scenario, trace: Trace, done: Callable[[Result], None]) -> Result:
    with ExitStack() as stack:
        lab = Lab(number, trace, stack)
        try:
            truth = one.play(lab)
            time.sleep(INTERVAL_S)
            caught_up = lab.catch_up()
            result = _judged(one.name, truth, lab)
            if not caught_up and not result.passed:
                result = replace(result, wrong=("the trace is behind", *result.wrong))
        except Exception:
            result = Result(one.name, None, wrong=("it could not be played",), story=traceback.format_exc())
    done(result)
    return result


def _judged(name: str, truth: Truth, lab: Lab) -> Result:
    ports = range(lab.port, lab.port + PORTS_EACH)
    # others of this machine may have used the ports before, in a namespace whose number is given out again
    here = (None, *lab.netns)
    events = [one for one in lab.trace.of() if one["arrived"] >= lab.began and _ends(one) & set(ports) and netns(one) in here]
    offset = time.time() - time.monotonic()
    result = judge(name, truth, events, lab.pids, offset)
    if result.passed:
        return result
    return replace(result, story="\n".join(map(brief, events)))


def _ends(event: dict[str, object]) -> set[int]:
    connection = event["tcptrace"].get("connection") or {}  # type: ignore[attr-defined]
    return {end["port"] for end in (connection.get("local"), connection.get("peer")) if end}


def pick(scenarios: Iterable[Scenario], names: Sequence[str]) -> list[Scenario]:
    """Those whose names begin so; all if none is named."""
    return [one for one in scenarios if not names or any(one.name.startswith(name) for name in names)]


__all__ = ["AT_ONCE", "local_port", "pick", "run"]
