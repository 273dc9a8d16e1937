"""tcptrace replay: a recording through the same model, to the same table, lines or JSON."""

from __future__ import annotations

from typing import Any, Final

import click

from tracer.cli import options
from tracer.text import printable

FASTEST: Final = "max"


class Speed(options.Seconds):
    """How many times as fast as it was, or FASTEST."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Fails with what is wrong."""
        return value if value == FASTEST else super().convert(value, param, ctx)


@click.command("replay")
@click.argument("file")
@click.option("--all", "everything", is_flag=True, help="Healthy connections too.")
@click.option("--follow", is_flag=True, help="Go on as the file grows, also when it is rotated.")
@click.option(
    "--speed",
    type=Speed(0.001, 1_000_000),
    metavar=f"N|{FASTEST}",
    help=f"N times as fast as it was, or as fast as it goes. Default: 1 on a terminal, {FASTEST} otherwise and with --follow.",
)
@click.option("--json", "as_json", is_flag=True, help="The event stream: one JSON object a line.")
def command(file: str, everything: bool, follow: bool, speed: float | str | None, as_json: bool) -> None:
    """Show what a recording tells, as watch would have shown it. `-` reads standard input.

    It needs no root, and nothing of the host where it was recorded. Lines that are no part of a recording are told of on
    stderr and left out.

    \b
    Examples:
      tcptrace replay events.ndjson
      tcptrace replay --speed 60 events.ndjson
      tcptrace replay --follow /var/log/tcptrace.ndjson
      zcat events.ndjson.gz | tcptrace replay - | grep reset-
      tcptrace replay --json events.ndjson | jq .tcptrace.verdict.summary
    """
    from tracer.cli.playback import play
    from tracer.sources.recording import Recording

    table = options.table_is_wanted(as_json)
    if speed is None:
        speed = 1.0 if table and not follow else FASTEST
    with Recording(file, follow=follow) as recording:
        play(recording, None if isinstance(speed, str) else speed, _say, everything=everything, as_json=as_json)


def _say(text: str) -> None:
    click.echo(f"tcptrace: {printable(text)}", err=True)
