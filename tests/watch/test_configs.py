"""The alerts and the dashboard that are shipped: their own tools are content, and they name what the daemon exports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from slurm_reserve.figures import METRICS
from slurm_reserve.meter import Kind, Metric

from tests.watch.promtool import needed, promtool

CONFIGS = Path(__file__).parents[2] / "configs"
RULES = CONFIGS / "prometheus" / "slurm_reserve.rules.yaml"
DASHBOARD = CONFIGS / "grafana" / "slurm_reserve.json"
RULES_TEST = Path(__file__).parent / "rules_test.yaml"
# What Grafana fills in before Prometheus sees it.
GRAFANA = {"$__rate_interval": "5m", "$__range": "24h", "$job": ".+", "$instance": ".+", "$reservation": ".+"}
LABELS = {metric.name: metric.labels for metric in METRICS}
ADDED = {"job", "instance", "le"}  # by Prometheus, and by histograms


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Of the dashboard, as Prometheus gets them."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    for name, value in GRAFANA.items():
        found = [each.replace(name, value) for each in found]
    return found


def series_of(metric: Metric) -> set[str]:
    ends = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
    return {metric.name + end for end in ends}


EXPORTED = {series: metric for metric in METRICS for series in series_of(metric)}
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}  # prometheus_client's own; up is Prometheus's


def named(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric with the labels that are asked for in braces behind it."""
    for name, asked in re.findall(r"\b((?:slurm_reserve|process)_[a-z_]+|up)\b(?:\{([^}]*)\})?", expression):
        if name != "slurm_reserve" or asked:
            yield name, set(re.findall(r"([a-z_]+)\s*(?:=|!)", asked))


def test_alerts_and_dashboard_name_what_the_daemon_exports_and_nothing_else() -> None:
    seen = set()
    for expression in [*(rule["expr"] for rule in rules()), *expressions()]:
        for name, labels in named(expression):
            if name == "up" or name in PROCESS:
                continue
            assert name in EXPORTED, f"{name} in {expression} is not exported"
            unknown = labels - set(EXPORTED[name].labels) - ADDED
            assert not unknown, f"{name} has no label {unknown}: {expression}"
            seen.add(EXPORTED[name].name)
        for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
            known = {label for name, _ in named(expression) for label in LABELS.get(re.sub("_bucket$", "", name), ())}
            assert {label.strip() for label in grouped.split(",")} <= known | ADDED, expression
    unused = set(LABELS) - seen
    assert unused <= {"slurm_reserve_build_info", "slurm_reserve_poll_interval_seconds"}, unused


def test_each_alert_says_how_grave_it_is_and_what_it_means() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"]


def test_each_alert_is_tried_out() -> None:
    tried = RULES_TEST.read_text()
    assert not [rule["alert"] for rule in rules() if rule["alert"] not in tried]


@needed
def test_promtool_is_content_with_the_alerts() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)


@needed
def test_the_alerts_come_when_they_must_and_only_then(tmp_path: Path) -> None:
    (tmp_path / "tests.yaml").write_text(RULES_TEST.read_text().replace("[RULES]", f"[{RULES}]"))
    assert "SUCCESS" in promtool("test", "rules", tmp_path / "tests.yaml")


@needed
def test_promtool_can_read_every_query_of_the_dashboard(tmp_path: Path) -> None:
    queries = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(expressions())]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": queries}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", tmp_path / "queries.yaml")


def understood(whole: dict[str, Any]) -> Any:
    """What Grafana's own types make of a dashboard: what they do not know they leave out."""
    plugins.register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(whole)))


def lost(of: Any, kept: Any, where: str = "") -> Iterator[str]:
    """What is in one JSON value and not, or otherwise, in another; that one may have more."""
    if isinstance(of, dict) and isinstance(kept, dict):
        for key, value in of.items():
            yield from lost(value, kept[key], f"{where}.{key}") if key in kept else [f"{where}.{key}"]
    elif isinstance(of, list) and isinstance(kept, list) and len(of) == len(kept):
        for n, (one, other) in enumerate(zip(of, kept, strict=True)):
            yield from lost(one, other, f"{where}[{n}]")
    elif of != kept:
        yield where


def test_grafanas_own_types_know_all_of_the_dashboard() -> None:
    whole = dashboard()
    assert list(lost(whole, understood(whole))) == []


def test_what_grafana_does_not_know_would_be_noticed() -> None:
    whole = dashboard()
    whole["panels"][1]["targets"][0]["query"] = "up"
    whole["panels"][1]["options"]["tooltip"]["modus"] = "multi"
    whole["refesh"] = "1m"
    wrong = [".panels[1].options.tooltip.modus", ".panels[1].targets[0].query", ".refesh"]
    assert sorted(lost(whole, understood(whole))) == wrong


def test_the_dashboard_is_one_that_people_can_read() -> None:
    """What Grafana's linter asks for: variables for data source, job and instance, titles, units, and so on."""
    whole = dashboard()
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= whole.keys()
    assert "id" not in whole  # a number of one installation
    variables = {each["name"]: each for each in whole["templating"]["list"]}
    assert variables.keys() == {"datasource", "job", "instance", "reservation"}
    ids = [panel["id"] for panel in whole["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"] or panel["type"] == "state-timeline"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for target in panel["targets"]:
            assert 'job=~"$job", instance=~"$instance"' in target["expr"]
            assert target["legendFormat"]


def test_panels_do_not_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
