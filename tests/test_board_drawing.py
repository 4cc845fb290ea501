"""The drawing of dashboards: what it shows is what Grafana would."""

from dataclasses import replace

import pytest
from alert_rules import Panel, filled, read_panels
from board_drawing import color_of, legend_of, shown
from line_chart import Frame, Line, chart, round_ticks, stacked
from prometheus_host import Series

FRAME = Frame(
    begin=0.0,
    end=100.0,
    gap=5.0,
    width=600.0,
    height=200.0,
    opacity=0.1,
    is_whole=True,
    spell=str,
    limits=((3.0, "red"), (9.0, "blue")),
    least_top=0.0,
)


def panel(title: str) -> Panel:
    return next(each for each in read_panels() if each.title == title)


@pytest.mark.parametrize(
    ("title", "value", "text"),
    [
        ("Held by runs", 1.78e-15, "0.000"),
        ("Worst budget", 0.8134, "81%"),
        ("Since it got further", 0.69, "690 ms"),
        ("Since it got further", 90.0, "90 s"),
        ("Since it got further", 7300.0, "2 h"),
        ("Sites connected", 2.0, "2"),
        ("Ledger holds", -1.0, "no"),
        ("Verdicts", 1.0, "yes"),
    ],
)
def test_a_value_has_the_unit_the_decimals_and_the_words_of_its_panel(
    title: str, value: float, text: str
) -> None:
    assert shown(panel(title), value) == text


def test_a_value_has_the_colour_of_the_highest_threshold_that_it_reaches() -> None:
    worst = panel("Worst budget")
    colors = [color_of(worst, value) for value in (0.79, 0.8, 0.94, 0.95)]
    assert len(set(colors)) == 3
    assert colors[1] == colors[2]


def test_a_label_that_a_series_does_not_have_is_empty_in_its_legend() -> None:
    assert legend_of("{{outcome}} {{reason}}", Series({"outcome": "done"}, ())) == "done"
    assert legend_of("", Series({"site": "va"}, ())) == "va"


def test_a_panel_may_be_of_one_site() -> None:
    assert filled('a{site=~"$site", run_id=~"$run_id"}', site="va") == 'a{site=~"va", run_id=~".*"}'


@pytest.mark.parametrize("most", [1e-4, 0.3, 1.0, 2.0, 7.3, 29.2, 1e6])
@pytest.mark.parametrize("is_whole", [False, True])
def test_ticks_are_few_and_reach_what_is_drawn(most: float, *, is_whole: bool) -> None:
    ticks = round_ticks(most, is_whole=is_whole)
    assert ticks[0] == 0
    assert ticks[-1] >= most * (1 - 1e-9)
    assert 2 <= len(ticks) <= 6
    assert not is_whole or all(each.is_integer() for each in ticks)


def test_a_line_is_bridged_over_a_missed_scrape_and_not_over_an_end() -> None:
    line = Line(((0.0, 1.0), (4.0, 1.0), (5.0, 1.0), (60.0, 1.0), (61.0, 4.0)), "green")
    drawn = chart([line], FRAME)
    assert drawn.count("<polyline") == 2
    # The threshold above the chart is not drawn.
    assert ("stroke='red'" in drawn, "stroke='blue'" in drawn) == (True, False)
    assert chart([line], replace(FRAME, gap=100.0)).count("<polyline") == 1


def test_a_stack_adds_up_where_there_is_something_below() -> None:
    low = Line(((0.0, 1.0), (1.0, 2.0)), "green")
    high = Line(((1.0, 3.0), (2.0, 4.0)), "red")
    assert [each.points for each in stacked([low, high])] == [
        ((0.0, 1.0), (1.0, 2.0)),
        ((1.0, 5.0), (2.0, 4.0)),
    ]
