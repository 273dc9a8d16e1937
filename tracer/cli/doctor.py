"""tcptrace doctor: what is there, what is missing, what is lost by it, how to mend it."""

from __future__ import annotations

import platform
from typing import Any

import click
import orjson

from tracer.cli import output
from tracer.errors import MISSING_PRECONDITION
from tracer.kernel import checks


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="The findings as one JSON document.")
def command(as_json: bool) -> int:
    """Check every precondition, and say how to mend what is missing.

    \b
    Exit code 0: tcptrace works here, perhaps with something lost; 3: it cannot.

    \b
    Examples:
      sudo tcptrace doctor
      sudo tcptrace doctor --json | jq '.checks[] | select(.ok | not)'
    """
    found = checks.every()
    works = not any(check.fatal for check in found)
    if as_json:
        document = {"kernel": platform.release(), "works": works, "checks": [_document(check) for check in found]}
        output.stdout().write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
    else:
        click.echo(f"kernel {platform.release()}")
        for check in found:
            _show(check)
        click.echo("tcptrace works here" if works else "tcptrace cannot run here")
    return 0 if works else MISSING_PRECONDITION


def _show(check: checks.Check) -> None:
    match check.found:
        case checks.Ok(detail=detail):
            click.echo(f"  {click.style('ok', fg='green')}       {check.name}{': ' if detail else ''}{detail}")
        case checks.Missing(why=why, fix=fix, lost=lost):
            click.echo(f"  {click.style('missing', fg='red')}  {check.name}: {why}")
            click.echo(f"             lost: {lost or 'everything, tcptrace cannot run'}")
            click.echo(f"             mend: {fix}")


def _document(check: checks.Check) -> dict[str, Any]:
    document: dict[str, Any] = {"name": check.name, "ok": isinstance(check.found, checks.Ok)}
    match check.found:
        case checks.Ok(detail=detail):
            document["detail"] = detail
        case checks.Missing(why=why, fix=fix, lost=lost):
            document |= {"why": why, "fix": fix, "lost": lost or "everything", "fatal": check.fatal}
    return document
