"""deploy/monitoring, held against the metrics that there are, and shown to Prometheus' own tool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.promtool import NoPromtool, promtool
from tests.lab.conftest import REQUIRED
from virt_preflight.agent.metrics import Metrics as AgentMetrics
from virt_preflight.controller.metrics import Metrics as ControllerMetrics

MONITORING = Path(__file__).parents[2] / "deploy/monitoring"
METRIC = re.compile(r"\b(virt_preflight_(?:agent|controller)_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
# Labels that Prometheus itself gives, and that histograms have.
EVERYWHERE = {"instance", "job", "le"}


def exposed() -> dict[str, set[str]]:
    """Every name that can be scraped, as rules write it, with its own labels."""
    agent, controller = AgentMetrics("1"), ControllerMetrics("1")
    agent.of_facts(dict)
    controller.of_fleet(list)
    controller.of_announcing(int)
    found: dict[str, set[str]] = {}
    for metrics in (agent, controller):
        metrics.of_certificate(lambda: datetime.now(UTC))
        for collector in list(metrics.registry._collector_to_names):
            for family in collector.collect():
                labels = set(getattr(collector, "_labelnames", getattr(family, "_labelnames", ())))
                match family.type:
                    case "counter":
                        names = [f"{family.name}_total"]
                    case "histogram":
                        names = [f"{family.name}_{part}" for part in ("bucket", "sum", "count")]
                    case _:
                        names = [family.name]
                found.update(dict.fromkeys(names, labels))
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """What rules and dashboard ask for, and where it stands."""
    rules = yaml.safe_load((MONITORING / "rules.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"]


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return read


def test_rules_and_dashboard_ask_for_what_there_is() -> None:
    there = exposed()
    for where, expression in expressions():
        for name, matchers in METRIC.findall(expression):
            assert name in there, f"{where}: there is no {name}"
            labels = set(MATCHER.findall(matchers)) - EVERYWHERE
            assert labels <= there[name], f"{where}: {name} has no label {labels - there[name]}"


def test_every_metric_of_ours_is_shown_or_alerted_on() -> None:
    asked = {name for _, expression in expressions() for name, _ in METRIC.findall(expression)}
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    ours = {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed() if "_process_" not in name
    }
    assert ours <= bases, f"nobody looks at {ours - bases}"


def test_the_page_describes_every_metric_and_no_others() -> None:
    page = (MONITORING.parent / "README.md").read_text()
    (table,) = re.findall(r"\| \| agent, `virt_preflight_agent_\.\.\.`.*?\n\n", page, re.DOTALL)
    for column, side in ((2, "agent"), (3, "controller")):
        told: set[str] = set()
        for row in table.strip().splitlines()[2:]:
            cells = row.split("|")
            same = "the same" in cells[column]
            told.update(re.findall(r"`(\w+)`", cells[column] + (cells[2] if same else "")))
        prefix = f"virt_preflight_{side}_"
        there = {
            re.sub(r"_(bucket|sum|count)$", "", name.removeprefix(prefix))
            for name in exposed()
            if name.startswith(prefix) and not name.startswith(f"{prefix}process_")
        }
        assert told == there, side


def test_labels_that_are_given_by_a_name_are_ones_that_there_are() -> None:
    """A misspelt kind would be an alert that never comes."""
    agent, controller = AgentMetrics("1"), ControllerMetrics("1")
    values: dict[str, set[str]] = {}
    for metrics in (agent, controller):
        for family in metrics.registry.collect():
            for sample in family.samples:
                for label, value in sample.labels.items():
                    values.setdefault(label, set()).add(value)
    for where, expression in expressions():
        for label, value in re.findall(r'\b(whom|why|kind|verdict)=~?"([^"]*)"', expression):
            for one in value.split("|"):
                assert one in values[label], f"{where}: nothing has {label}={one}"


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    read = dashboard()
    assert isinstance(read["schemaVersion"], int)
    assert read["uid"]
    assert read["title"]
    assert "id" not in read, "the id of another Grafana's database"
    panels = read["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    known = {variable["name"] for variable in read["templating"]["list"]}
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, f"{panel['title']} lies on another"
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        assert len({one["refId"] for one in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= known, panel["title"]


def test_every_alert_has_its_unit_test() -> None:
    rules = yaml.safe_load((MONITORING / "rules.yml").read_text())
    tests = yaml.safe_load((MONITORING / "rules.test.yml").read_text())
    fired = {
        alert["alertname"]
        for test in tests["tests"]
        for alert in test["alert_rule_test"]
        if alert.get("exp_alerts")
    }
    assert {rule["alert"] for group in rules["groups"] for rule in group["rules"]} == fired


@pytest.fixture(scope="module")
def tool() -> Path:
    try:
        return promtool()
    except NoPromtool as error:
        if REQUIRED:
            pytest.fail(f"promtool is required: {error}")
        pytest.skip(f"RULES NOT LOOKED AT: {error}")


@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "--lint-fatal", "rules.yml"),
        # The certificates that it names are not on this machine.
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("test", "rules", "rules.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(tool: Path, words: tuple[str, ...]) -> None:
    ended = run(tool, MONITORING, *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_what_the_dashboard_asks_for_is_promql(tool: Path, tmp_path: Path) -> None:
    """Its panels' questions, as rules that record what they come to."""
    assert checked(tool, tmp_path, *panel_questions()).returncode == 0
    assert checked(tool, tmp_path, "sum by (le (virt_preflight_agent_hanging)").returncode != 0


def panel_questions() -> list[str]:
    """With something in the place of what Grafana fills in."""
    return [
        re.sub(r"\$\w+", ".*", target["expr"].replace("$__rate_interval", "5m"))
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
    ]


def checked(tool: Path, at: Path, *expressions: str) -> subprocess.CompletedProcess[str]:
    rules = [{"record": f"asked:{n}", "expr": one} for n, one in enumerate(expressions)]
    groups = {"groups": [{"name": "dashboard", "rules": rules}]}
    (at / "dashboard.yml").write_text(yaml.safe_dump(groups))
    return run(tool, at, "check", "rules", "--lint=none", "dashboard.yml")


def test_promtool_would_tell(tool: Path, tmp_path: Path) -> None:
    """Of a rule that never fires, and of one that cannot be read."""
    for name in ("rules.yml", "rules.test.yml"):
        shutil.copy(MONITORING / name, tmp_path)
    rules = tmp_path / "rules.yml"
    text = rules.read_text()
    rules.write_text(text.replace("_host_silent == 1", "_host_silent == 2"))
    ended = run(tool, tmp_path, "test", "rules", "rules.test.yml")
    assert ended.returncode != 0
    assert "VirtPreflightHostSilent" in ended.stdout + ended.stderr
    rules.write_text(text.replace("_host_silent == 1", "_host_silent == "))
    assert run(tool, tmp_path, "check", "rules", "rules.yml").returncode != 0


def run(tool: Path, at: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool, *words], cwd=at, capture_output=True, text=True, check=False, timeout=120
    )
