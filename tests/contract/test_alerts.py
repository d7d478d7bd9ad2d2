"""What Prometheus and Grafana are given, read by Prometheus's own tool: the rules, their tests, and
every question of the dashboard. That the metrics exist is tested on real peers (tests/e2e)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.missing import do_without

GRAFANA = Path(__file__).parents[2] / "deploy/grafana"


@pytest.fixture(scope="module")
def promtool() -> str:
    """The program; Debian's package `prometheus` has it."""
    return shutil.which("promtool") or do_without(
        "install Debian's package prometheus: promtool is not on the PATH"
    )


def checked(*command: str | Path) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=GRAFANA, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules(file: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((GRAFANA / file).read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def test_the_rules_are_rules(promtool: str) -> None:
    """Prometheus takes both files as they are."""
    checked(promtool, "check", "rules", "recording.yml", "alerts.yml")


def test_each_alert_fires_when_it_should(promtool: str) -> None:
    """The rules' own tests hold."""
    checked(promtool, "test", "rules", "alerts_test.yml")


def test_each_alert_has_tests() -> None:
    """Of each there is one that fires it, with all it says, and it is silent while all is well."""
    tests = yaml.safe_load((GRAFANA / "alerts_test.yml").read_text())["tests"]
    fired = {
        check["alertname"]
        for test in tests
        for check in test["alert_rule_test"]
        if check.get("exp_alerts")
    }
    (well,) = (test for test in tests if test["name"] == "a cluster that is well")
    silent = {check["alertname"] for check in well["alert_rule_test"]}
    assert not any(check.get("exp_alerts") for check in well["alert_rule_test"])
    assert fired == silent == {rule["alert"] for rule in rules("alerts.yml")}


@pytest.mark.parametrize("rule", rules("alerts.yml"), ids=lambda rule: str(rule["alert"]))
def test_an_alert_tells_a_person_what_to_do(rule: dict[str, Any]) -> None:
    """How bad it is, what it is in one line, where to look; and the README has it with both."""
    assert rule["alert"].startswith("Grapevine")
    assert rule["labels"].keys() == {"severity"}
    severity = rule["labels"]["severity"]
    assert severity in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description"}
    after = rule.get("for", "at once")
    row = rf"^\| {rule['alert']} \| {severity} \| {after} \| \S"
    assert re.search(row, (GRAFANA / "README.md").read_text(), re.MULTILINE)


def test_commands_that_people_are_told_to_type_exist() -> None:
    """An alert at night is no time for a command that was renamed."""
    from peer.cli import main  # noqa: PLC0415 - the program is what this asks about

    said = " ".join(rule["annotations"]["description"] for rule in rules("alerts.yml"))
    commands = {tuple(text.split()) for text in re.findall(r"`peerctl ([^`]+)`", said)}
    assert commands
    for first, *_ in commands:
        assert first in main.commands


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    document = json.loads((GRAFANA / "dashboard.json").read_text())
    assert isinstance(document, dict)
    return document


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def test_every_question_of_the_dashboard_is_one(
    promtool: str, dashboard: dict[str, Any], tmp_path: Path
) -> None:
    """Each is an expression that Prometheus takes, with Grafana's variables filled in."""
    questions = [
        target["expr"].replace("$job", "grapevine").replace("$instance", ".*")
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]
    questions += [
        annotation["expr"].replace("$job", "grapevine").replace("$instance", ".*")
        for annotation in dashboard["annotations"]["list"]
    ]
    named = [{"record": f"question:{n}", "expr": expr} for n, expr in enumerate(questions)]
    file = tmp_path / "questions.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": named}]}))
    assert not any("$" in question for question in questions)
    checked(promtool, "check", "rules", file)


def test_the_dashboard_is_of_one_piece(dashboard: dict[str, Any]) -> None:
    """Panels have numbers and titles of their own, do not overlap, and ask the chosen Prometheus;
    no panel asks for peers that were not chosen, but where a rule has summed them up."""
    every = dashboard["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    assert len({panel["title"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels(dashboard):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            for selector in re.findall(r"(?<!:)\bgrapevine_\w+(\{[^}]*\})", target["expr"]):
                assert 'job="$job"' in selector
