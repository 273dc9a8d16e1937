"""`scripts/scenarios [NAME…]`: plays them, prints what was expected and got, and the confusion matrix."""

from __future__ import annotations

import os
import signal
import sys

import click
from rich.console import Console

from tests.scenarios.every import SCENARIOS
from tests.scenarios.judge import Result
from tests.scenarios.report import report
from tests.scenarios.runner import AT_ONCE, pick, run
from tests.scenarios.traffic import SECONDS, USUAL_S
from tracer.kernel import checks


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("names", nargs=-1)
@click.option("--list", "listing", is_flag=True, help="Name them with their stories, play nothing.")
@click.option("--at-once", default=AT_ONCE, show_default=True, type=click.IntRange(1, 64), help="How many play at a time.")
@click.option("--reasonless", is_flag=True, help="As on kernels that give no reasons: every cause is inferred.")
@click.option(
    "--traffic",
    default=USUAL_S,
    show_default=True,
    envvar=SECONDS,
    type=click.IntRange(5, 86_400),
    metavar="SECONDS",
    help="How long the web server is under load: ten minutes prove something, seconds that it works.",
)
def main(names: tuple[str, ...], *, listing: bool, at_once: int, reasonless: bool, traffic: int) -> None:
    """Play scenarios (all, or those whose names begin so) on the real kernel and judge what tcptrace says of them.

    \b
    Examples:
      sudo scripts/scenarios                    all
      sudo scripts/scenarios keepalive orphan   those that begin so
      sudo scripts/scenarios --reasonless       what older kernels leave to inference
      sudo scripts/scenarios --traffic 600 web  ten minutes of healthy traffic
    """
    chosen = pick(SCENARIOS.values(), names)
    if not chosen:
        raise click.UsageError(f"no scenario begins with {' or '.join(names)}; --list names them")
    if listing:
        for one in chosen:
            click.echo(f"{one.name:40} {one.play.__doc__}")
        return
    checks.require()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ[SECONDS] = str(traffic)
    done = 0

    def say(result: Result) -> None:
        nonlocal done
        done += 1
        click.echo(f"{done:3}/{len(chosen)} {result.name}: {'ok' if result.passed else '; '.join(result.wrong)}", err=True)

    results = run(chosen, say, at_once, reasonless=reasonless)
    Console(width=None if sys.stdout.isatty() else 160).print(report(results))
    sys.exit(0 if all(one.passed for one in results) else 1)


main()
