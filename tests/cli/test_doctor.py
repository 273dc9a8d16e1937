"""Doctor: what is there, what is missing, what is lost by it, how to mend it; for people and for programs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from tests.lab.trace import ROOT, tcptrace
from tracer.cli import doctor
from tracer.errors import MISSING_PRECONDITION
from tracer.kernel import checks, layouts
from tracer.kernel.btf import Btf
from tracer.kernel.checks import Check, Missing, Ok
from tracer.kernel.programs import LOST_WITHOUT

FINE: Final = Check("bcc", Ok("0.26.0"))
BARE: Final = Check("iterator tcp", Ok())
WORSE: Final = Check(
    "tracepoint tcp_probe", Missing("the kernel has none", "boot a newer kernel", "probes at the next scan only")
)
FATAL: Final = Check("BTF", Missing("there is no BTF", "boot a kernel with BTF"))


def diagnosed(monkeypatch: pytest.MonkeyPatch, *found: Check, json: bool = False) -> tuple[int, str]:
    """Exit code and output of doctor where the checks find this."""
    monkeypatch.setattr(checks, "every", lambda: list(found))
    done = CliRunner().invoke(doctor.command, ["--json"] if json else [], standalone_mode=False)
    assert done.exception is None
    return done.return_value, done.output  # type: ignore[attr-defined, unused-ignore]


def run(*arguments: str, path: Path | None = None) -> Any:
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    return subprocess.run(
        tcptrace("doctor", *arguments), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def unrelated_bcc(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH, with what `pip install bcc` gives."""
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").write_text("class Client: ...\n")
    return tmp_path


def test_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert diagnosed(monkeypatch, FINE, BARE) == (
        0,
        f"kernel {platform.release()}\n  ok       bcc: 0.26.0\n  ok       iterator tcp\ntcptrace works here\n",
    )


def test_what_only_loses_something_is_told_and_lived_with(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = diagnosed(monkeypatch, FINE, WORSE)
    assert code == 0
    assert text.splitlines()[2:] == [
        "  missing  tracepoint tcp_probe: the kernel has none",
        "             lost: probes at the next scan only",
        "             mend: boot a newer kernel",
        "tcptrace works here",
    ]


def test_what_cannot_be_done_without_is_told_last_and_by_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = diagnosed(monkeypatch, FINE, FATAL, WORSE)
    assert code == MISSING_PRECONDITION
    assert "             lost: everything, tcptrace cannot run\n             mend: boot a kernel with BTF\n" in text
    assert text.endswith("tcptrace cannot run here\n")


def test_programs_are_told_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = diagnosed(monkeypatch, FINE, BARE, WORSE, FATAL, json=True)
    assert code == MISSING_PRECONDITION
    assert text.endswith("}\n") and text.count("\n") == 1
    assert json.loads(text) == {
        "kernel": platform.release(),
        "works": False,
        "checks": [
            {"name": "bcc", "ok": True, "detail": "0.26.0"},
            {"name": "iterator tcp", "ok": True, "detail": ""},
            {
                "name": "tracepoint tcp_probe",
                "ok": False,
                "why": "the kernel has none",
                "fix": "boot a newer kernel",
                "lost": "probes at the next scan only",
                "fatal": False,
            },
            {
                "name": "BTF",
                "ok": False,
                "why": "there is no BTF",
                "fix": "boot a kernel with BTF",
                "lost": "everything",
                "fatal": True,
            },
        ],
    }


def test_programs_are_told_that_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = diagnosed(monkeypatch, WORSE, json=True)
    assert (code, json.loads(text)["works"]) == (0, True)


def test_pypis_bcc_is_told_with_what_is_lost_and_how_to_mend_it(unrelated_bcc: Path) -> None:
    done = run(path=unrelated_bcc)
    assert (done.returncode, done.stderr) == (MISSING_PRECONDITION, "")
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("  missing  bcc: "))
    assert "unrelated package from PyPI" in lines[at]
    assert lines[at + 1] == "             lost: everything, tcptrace cannot run"
    assert lines[at + 2].startswith("             mend: pip uninstall bcc. Debian and Ubuntu: apt-get install python3-bpfcc")
    assert lines[-1] == "tcptrace cannot run here"


def test_pypis_bcc_is_told_to_programs(unrelated_bcc: Path) -> None:
    done = run("--json", path=unrelated_bcc)
    assert (done.returncode, done.stderr) == (MISSING_PRECONDITION, "")
    document = json.loads(done.stdout)
    (bcc,) = [one for one in document["checks"] if one["name"] == "bcc"]
    assert (document["works"], bcc["ok"], bcc["fatal"], bcc["lost"]) == (False, False, True, "everything")
    assert "apt-get install python3-bpfcc" in bcc["fix"]


@pytest.mark.kernel
def test_the_running_kernel_has_all() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    first, *found, last = done.stdout.splitlines()
    assert (first, last) == (f"kernel {platform.release()}", "tcptrace works here")
    assert [line for line in found if not line.startswith("  ok       ")] == []
    assert "\x1b" not in done.stdout  # colours are for terminals


@pytest.mark.kernel
def test_each_precondition_of_the_running_kernel_is_in_the_document() -> None:
    done = run("--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["kernel"], document["works"]) == (platform.release(), True)
    assert [one for one in document["checks"] if not one["ok"]] == []
    names = [one["name"] for one in document["checks"]]
    wanted = {
        "CAP_BPF",
        "CAP_PERFMON",
        "CAP_SYS_ADMIN",
        "CAP_SYS_PTRACE",
        "BTF",
        "lockdown",
        "bcc",
        "BTF layout",
    }
    wanted |= {"iterator tcp", "iterator task_file"} | {f"tracepoint {name}" for name in LOST_WITHOUT}
    assert sorted(names) == sorted(wanted)


@pytest.mark.kernel
def test_a_field_that_the_kernel_lacks_is_told_with_what_is_lost_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = layouts.resolve

    def without(btf: Btf) -> layouts.Layout:
        layout = real(btf)
        lost = {member.name: member.lost for member in layouts.MEMBERS}
        return replace(layout, missing={name: lost[name] for name in ("ICSK_TIMEOUT", "SK_LINGERTIME")})

    monkeypatch.setattr(layouts, "resolve", without)
    told = [check for check in checks.every() if isinstance(check.found, Missing)]
    assert told == [
        Check(
            "field sk_lingertime",
            Missing(
                "the kernel's BTF has no sock.sk_lingertime",
                "a newer kernel may have it",
                "SO_LINGER 0 cannot be told from other closes",
            ),
        )
    ]
