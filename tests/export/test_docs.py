"""The alert rules and the dashboard name metrics and labels that there are; promtool agrees with rules and their stories."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import parser as untyped_parser

from tests.builders import START
from tests.lab.trace import ROOT
from tests.views import reset_notice, screen, view
from tracer.export.metrics import Metrics

parser: Any = untyped_parser
RULES: Final = ROOT / "docs" / "prometheus-alerts.yml"
STORIES: Final = ROOT / "tests" / "export" / "prometheus-alerts.test.yml"
BOARD: Final[dict[str, Any]] = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text())
# of the client's own metrics, and of what Prometheus adds to each series
OURS_NOT: Final = {"process_cpu_seconds_total": set[str]()}
ADDED: Final = {"instance", "job", "le"}


def exported() -> dict[str, set[str]]:
    """The labels of each series name."""
    metrics = Metrics({"otlp": lambda: 0})
    metrics.start(START, {})
    metrics.take([reset_notice()])
    metrics.draw(screen(view(), scan_s=0.1))
    registry = CollectorRegistry()
    registry.register(metrics)
    found: dict[str, set[str]] = dict(OURS_NOT)
    for family in parser.text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found[sample.name] = set(sample.labels)
    return found


def rule_expressions() -> list[str]:
    return re.findall(r"expr:(.+?)\n +(?:for|labels):", RULES.read_text(), re.DOTALL)


def board_expressions() -> list[str]:
    return [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


def test_all_expressions_were_found() -> None:
    assert len(rule_expressions()) == RULES.read_text().count("- alert:") >= 5
    assert len(board_expressions()) >= len(BOARD["panels"]) >= 15


@pytest.mark.parametrize("expression", [*rule_expressions(), *board_expressions()])
def test_each_metric_and_label_that_an_expression_names_is_exported(expression: str) -> None:
    metrics = exported()
    names = set(re.findall(r"\b(?:tcptrace|process)_\w+", expression))
    assert names and names <= metrics.keys()
    labels = set().union(*(metrics[name] for name in names)) | ADDED
    used = {label.strip() for by in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in by.split(",")}
    used |= set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", expression))
    assert used <= labels


def test_the_dashboard_shows_every_metric() -> None:
    named = set(re.findall(r"\btcptrace_\w+", " ".join(board_expressions())))
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in named}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in exported() if name not in OURS_NOT} == shown


def test_the_dashboard_is_whole() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24 and panel["description"]
        taken |= cells
    variables = {one["name"] for one in BOARD["templating"]["list"]} | {"__rate_interval", "__range"}
    assert set(re.findall(r"\$(\w+)", " ".join(board_expressions()))) <= variables


# Debian's Prometheus is on a machine that the kernel tests were prepared on
@pytest.mark.kernel
@pytest.mark.parametrize("arguments", [["check", "rules", str(RULES)], ["test", "rules", str(STORIES)]])
def test_promtool_accepts_the_rules_and_their_stories(arguments: list[str]) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


@pytest.mark.kernel
def test_each_alert_has_a_story() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    told = re.findall(r"alertname: (\w+)\n +exp_alerts:\n", STORIES.read_text())
    assert set(told) == alerts
