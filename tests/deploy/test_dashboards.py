"""The dashboards: what Grafana needs to show them, and that they agree with metrics and alerts."""

import re

import pytest
from alert_rules import Panel, Rule, metrics_in, read_boards, read_panels, read_rules

from sordino_protocols.metrics import METRICS, ReleaseClass

UIDS = {"sordino-fleet", "sordino-run", "sordino-privacy", "sordino-audit", "sordino-site"}
VARIABLES = {
    "sordino-fleet": {"site"},
    "sordino-run": {"run_id", "site"},
    "sordino-privacy": {"site", "dataset"},
    "sordino-audit": set(),
    "sordino-site": {"site"},
}
WHOLE_ROW = 24


def listed(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)
    return value


def test_there_are_five_with_stable_ids() -> None:
    boards = read_boards()
    assert set(boards) == UIDS
    assert {str(board["uid"]) for board in boards.values()} == UIDS


@pytest.mark.parametrize("uid", sorted(UIDS))
def test_a_board_asks_for_its_datasource_and_offers_its_variables(uid: str) -> None:
    board = read_boards()[uid]
    templating = board["templating"]
    assert isinstance(templating, dict)
    variables = {str(each["name"]): each for each in listed(templating["list"])}
    assert set(variables) == VARIABLES[uid] | {"datasource"}
    assert variables["datasource"]["type"] == "datasource"
    for name in VARIABLES[uid]:
        assert variables[name]["includeAll"]
        asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", str(variables[name]["definition"]))
        assert asked is not None
        assert asked[2] == name
        # A vault does not say whose it is: there the label is the scrape target's.
        is_told = name in METRICS[asked[1]].labels
        assert is_told or (name == "site" and METRICS[asked[1]].places)


@pytest.mark.parametrize("panel", read_panels(), ids=str)
def test_a_panel_says_what_it_shows_and_uses_the_boards_datasource(panel: Panel) -> None:
    raw = next(
        each
        for each in listed(read_boards()[panel.board]["panels"])
        if each["title"] == panel.title
    )
    assert str(raw["description"]).endswith((".", "site.toml", "list."))
    assert panel.unit
    assert raw["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert all(each["datasource"] == raw["datasource"] for each in listed(raw["targets"]))


@pytest.mark.parametrize("panel", read_panels(), ids=str)
def test_a_panel_is_about_metrics_that_may_be_scraped(panel: Panel) -> None:
    for expression, _ in panel.targets:
        if not expression.startswith("count(ALERTS"):
            named = metrics_in(expression)
            assert named
            assert all(METRICS[name].release is not ReleaseClass.LOCAL for name in named)
        used = set(re.findall(r"\$(\w+)", expression)) - {"__rate_interval"}
        assert used <= VARIABLES[panel.board]


def test_every_metric_that_is_scraped_is_shown_somewhere() -> None:
    shown = set().union(
        *(
            metrics_in(expression)
            for panel in read_panels()
            for expression, _ in panel.targets
            if "ALERTS" not in expression
        )
    )
    scraped = {name for name, facts in METRICS.items() if facts.release is not ReleaseClass.LOCAL}
    assert shown == scraped


@pytest.mark.parametrize("uid", sorted(UIDS))
def test_panels_lie_side_by_side_with_big_numbers_on_top(uid: str) -> None:
    panels = [panel for panel in read_panels() if panel.board == uid]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel.place[0], panel.place[0] + panel.place[2])
        for y in range(panel.place[1], panel.place[1] + panel.place[3])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < WHOLE_ROW
    assert {panel.kind for panel in panels if panel.place[1] == 0} == {"stat"}


def limits(rule: Rule) -> set[float]:
    """The numbers that an alert's comparisons are with."""
    found = re.findall(r"[<>]=?\s*([0-9.]+(?:\s*\*\s*[0-9]+)?)\s*$", rule.expression, re.MULTILINE)
    return {float(eval(each, {"__builtins__": {}})) for each in found}  # noqa: S307 - numbers


@pytest.mark.parametrize(
    ("alert", "board", "title"),
    [
        ("BudgetNearlyExhausted", "sordino-fleet", "Worst budget"),
        ("BudgetNearlyExhausted", "sordino-privacy", "Share of each budget over time"),
        ("BudgetNearlyExhausted", "sordino-site", "Worst budget"),
        ("CertExpiring", "sordino-fleet", "Certificates"),
        ("CertExpiring", "sordino-site", "Certificates"),
        ("RoundStalled", "sordino-run", "Since it got further"),
        ("AuthFailures", "sordino-fleet", "Callers not let in"),
    ],
)
def test_a_panels_thresholds_are_those_of_its_alert(alert: str, board: str, title: str) -> None:
    panel = next(each for each in read_panels() if (each.board, each.title) == (board, title))
    steps = {value for value, _ in panel.thresholds if value is not None}
    wanted = set().union(*(limits(rule) for rule in read_rules() if rule.alert == alert))
    assert wanted
    assert steps == wanted


def test_every_alert_named_on_a_board_exists() -> None:
    known = {rule.alert for rule in read_rules()}
    named = {
        name
        for board in read_boards().values()
        for panel in listed(board["panels"])
        for name in re.findall(r"Alert(?: below 0)?: (\w+)", str(panel["description"]))
    }
    assert named <= known
    # All that a picture can show is pointed at from one.
    assert named == known - {"TrainerCrashLoop"} | {"TrainerCrashLoop"}
