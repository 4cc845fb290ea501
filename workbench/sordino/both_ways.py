"""Rounds and synthetic records beside each other, as a page and a terminal show them."""

from dataclasses import dataclass

from sordino.figure_words import headline_of, title_of, with_interval
from sordino.result import RunResult, SyntheticSection


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line: what is compared, and both sides of it."""

    title: str
    rounds: str
    synthetic: str


@dataclass(frozen=True, slots=True)
class BothWays:
    """What a page says of the way without rounds.

    Attributes:
        rows: the comparison.
        found: how it went; the result's own section.
    """

    rows: tuple[Comparison, ...]
    found: SyntheticSection


def both_ways(result: RunResult) -> BothWays | None:
    """The comparison; None of a run without synthetic records."""
    if "synthetic" not in result or not result["synthetic"]["exact"]:
        return None
    found = result["synthetic"]
    rows = (*_exact(result, found), *_noisy(result, found), *_effort(result, found))
    return BothWays(rows, found)


def left_out(result: RunResult) -> list[str]:
    """A sentence on each way to train that was not tried, or did not work."""
    synthetic = result["synthetic"]["left_out"] if "synthetic" in result else ""
    return [*result["baselines"]["left_out"], *([synthetic] if synthetic else [])]


def _exact(result: RunResult, synthetic: SyntheticSection) -> list[Comparison]:
    return [
        Comparison(
            f"{title_of(figure)}, exact",
            headline_of(figure, value),
            headline_of(figure, synthetic["exact"][figure]),
        )
        for figure, value in result["exact"].items()
    ]


def _noisy(result: RunResult, synthetic: SyntheticSection) -> list[Comparison]:
    return [
        Comparison(
            f"{title_of(figure)}, as released",
            with_interval(figure, entry),
            with_interval(figure, synthetic["figures"][figure]),
        )
        for figure, entry in result["evaluation"]["figures"].items()
        if figure in synthetic["figures"]
    ]


def _effort(result: RunResult, synthetic: SyntheticSection) -> list[Comparison]:
    return [
        Comparison("Messages of a site, evaluation aside", str(result["rounds"]), "1"),
        Comparison(
            "Seconds, in this demo",
            f"{result['seconds']['rounds']:.1f}",
            f"{synthetic['seconds']:.1f}",
        ),
    ]
