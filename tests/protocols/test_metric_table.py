"""The table of metrics: what it allows, and that people are told the same."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from sordino_protocols.metrics import (
    METRICS,
    MetricFacts,
    MetricKind,
    Place,
    ReleaseClass,
    counter_family,
    gauge_family,
    histogram_family,
    make_counter,
    make_gauge,
    make_histogram,
)

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<rest>.*) \|$", re.MULTILINE)


def rows() -> dict[str, tuple[str, ...]]:
    """What people are told, by name."""
    found = ROW.findall(DOCS.read_text())
    assert len(found) == len(dict(found))
    return {name: tuple(cell.strip() for cell in rest.split("|")) for name, rest in found}


def test_people_are_told_what_the_code_has() -> None:
    said = {
        facts.name: (
            facts.kind.value,
            ", ".join(facts.labels),
            facts.release.value,
            ", ".join(sorted(place.value for place in facts.places)),
            facts.text,
        )
        for facts in METRICS.values()
    }
    assert rows() == said


def test_a_site_tells_no_metric_that_depends_on_records_but_to_its_people() -> None:
    local = {facts.name for facts in METRICS.values() if facts.release is ReleaseClass.LOCAL}
    # A metric that is no longer `local` is a decision: whoever makes it comes by here.
    assert local == {
        "sordino_train_step_seconds",
        "sordino_train_batch_records",
        "sordino_train_clip_fraction_ratio",
        "sordino_train_loss",
    }
    assert all(METRICS[name].places == {Place.VAULT} for name in local)


@pytest.mark.parametrize("name", ["sordino_made_up", "sordino_updates_total"])
def test_no_gauge_is_made_that_is_not_in_the_table(name: str) -> None:
    for make in (lambda: gauge_family(name), lambda: make_gauge(name, CollectorRegistry())):
        with pytest.raises(ValueError, match="is no gauge of the table"):
            make()


@pytest.mark.parametrize("name", ["sordino_made_up_total", "sordino_runs"])
def test_no_counter_is_made_that_is_not_in_the_table(name: str) -> None:
    for make in (lambda: counter_family(name), lambda: make_counter(name, CollectorRegistry())):
        with pytest.raises(ValueError, match="is no counter of the table"):
            make()


@pytest.mark.parametrize("name", ["sordino_made_up_seconds", "sordino_runs"])
def test_no_histogram_is_made_that_is_not_in_the_table(name: str) -> None:
    for make in (lambda: histogram_family(name), lambda: make_histogram(name, CollectorRegistry())):
        with pytest.raises(ValueError, match="is no histogram of the table"):
            make()


def test_a_counter_is_named_as_one() -> None:
    everywhere = frozenset(Place)
    for name, kind in (("a", MetricKind.COUNTER), ("a_total", MetricKind.GAUGE)):
        with pytest.raises(ValueError, match="_total"):
            MetricFacts(name, kind, (), ReleaseClass.PUBLIC, everywhere, "")


def test_units_are_base_units() -> None:
    for facts in METRICS.values():
        assert not re.search(r"_(ms|millis|minutes|hours|percent|mb|kb)(_|$)", facts.name)
        if "timestamp" in facts.name:
            assert facts.name.endswith("_timestamp_seconds")
