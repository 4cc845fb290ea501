"""The alert rules and dashboards as tests read them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from sordino_protocols.metrics import METRICS

DEPLOY = Path(__file__).parents[1] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARDS = DEPLOY / "grafana" / "dashboards"


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert rule."""

    alert: str
    expression: str
    wait: str
    severity: str
    summary: str
    runbook: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel of a dashboard.

    Attributes:
        board: uid of its dashboard.
        title: as Grafana shows it.
        kind: "stat", "timeseries", "bargauge" or "table".
        unit: of its values, as Grafana calls it.
        decimals: how many are shown; None for as many as it takes.
        texts: what is shown instead of a value.
        targets: expression and legend of each.
        thresholds: from which value on it has which colour; None is from the beginning.
        place: x, y, width and height on Grafana's grid of 24 columns.
        columns: of a table: labels that come first, what a column is called, and what is left out.
        is_stacked: whether one series lies on the other.
        opacity: of the area below a line, from 0 to 1.
    """

    board: str
    title: str
    kind: str
    unit: str
    decimals: int | None
    texts: Mapping[float, str]
    targets: tuple[tuple[str, str], ...]
    thresholds: tuple[tuple[float | None, str], ...]
    place: tuple[int, int, int, int]
    columns: "Columns"
    is_stacked: bool
    opacity: float

    def __str__(self) -> str:
        return f"{self.board}-{self.title}"


@dataclass(frozen=True, slots=True)
class Columns:
    """How a table's columns are arranged."""

    first: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()


def read_rules() -> list[Rule]:
    """All alert rules, in order."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [
        Rule(
            each["alert"],
            each["expr"],
            each["for"],
            each["labels"]["severity"],
            each["annotations"]["summary"],
            each["annotations"]["runbook_url"],
        )
        for group in groups
        for each in group["rules"]
    ]


def read_boards() -> dict[str, Mapping[str, object]]:
    """All dashboards as Grafana reads them, by file name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def read_panels() -> list[Panel]:
    """The panels of all dashboards, in order."""
    return [panel for board in read_boards() for panel in _panels(board)]


def _panels(board: str) -> Iterator[Panel]:
    for each in json.loads((DASHBOARDS / f"{board}.json").read_text())["panels"]:
        defaults, grid = each["fieldConfig"]["defaults"], each["gridPos"]
        yield Panel(
            board,
            each["title"],
            each["type"],
            defaults["unit"],
            defaults.get("decimals"),
            {
                float(value): str(shown["text"])
                for mapping in defaults["mappings"]
                for value, shown in mapping["options"].items()
            },
            tuple((one["expr"], one.get("legendFormat", "")) for one in each["targets"]),
            tuple((step["value"], step["color"]) for step in defaults["thresholds"]["steps"]),
            (grid["x"], grid["y"], grid["w"], grid["h"]),
            _columns(each.get("transformations", [])),
            defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal",
            defaults.get("custom", {}).get("fillOpacity", 0) / 100,
        )


def _columns(transformations: Sequence[Mapping[str, Mapping[str, Mapping[str, int]]]]) -> Columns:
    for each in transformations:
        options = each["options"]
        order = options["indexByName"]
        return Columns(
            tuple(sorted(order, key=lambda name: order[name])),
            {name: str(shown) for name, shown in options["renameByName"].items()},
            frozenset(options["excludeByName"]),
        )
    return Columns()


def metrics_in(expression: str) -> set[str]:
    """The metrics of ours that an expression names, by their names in the table."""
    named = set(re.findall(r"\bsordino_\w+", expression))
    return {_in_table(name) for name in named}


def filled(expression: str, *, site: str = ".*", window: str = "1m") -> str:
    """A panel's expression for one site or all, with every other variable set as for "all"."""
    of_site = re.sub(r"\$site\b", site, expression)
    return re.sub(r"\$(dataset|run_id)\b", ".*", of_site).replace("$__rate_interval", window)


def _in_table(name: str) -> str:
    parts = (name, *(name.removesuffix(end) for end in ("_bucket", "_sum", "_count")))
    found = [each for each in parts if each in METRICS]
    assert found, f"no metric is called {name}"
    return found[0]
