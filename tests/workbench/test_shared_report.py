"""The page that anybody may see: complete, self-contained, and nothing that was not released."""

import math
import re
from pathlib import Path

import pytest
from plausible_synthesis import finished_synthesis

from sordino.shared_report import render
from sordino.synthetic_release import SyntheticRelease


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> SyntheticRelease:
    return finished_synthesis(tmp_path_factory.mktemp("runs") / "runs")


@pytest.fixture(scope="module")
def page(release: SyntheticRelease) -> str:
    return render(release)


def test_loads_nothing_and_runs_nothing(page: str) -> None:
    assert "<script" not in page
    assert "http" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "data:" not in page


def test_drawings_follow_the_theme(page: str) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "var(--warm)" in drawings
    assert not re.findall(r"#0[1-9]0[1-9]0[1-9]", drawings)


def test_draws_every_column_and_the_budget(page: str) -> None:
    # Five columns, and shares by column, by table and by row.
    assert page.count("<svg") == 5 + 3
    for name in ("age", "cost", "ward", "towers", "ill"):
        assert f"<h3>{name}</h3>" in page


def test_shows_the_estimate_and_its_error(release: SyntheticRelease, page: str) -> None:
    facts = release.facts.tables
    whole = sum(each.units for each in facts.values())
    assert f"{whole:,.0f}" in page
    assert f"{math.hypot(*(each.units_std for each in facts.values())):,.0f}" in page


def test_lists_every_table_with_its_interval(release: SyntheticRelease, page: str) -> None:
    listed = re.findall(r"<td>(?:fine|coarse)</td>", page)
    assert len(listed) == len(release.plan.marginals)
    shares = [float(each) for each in re.findall(r"<td>([\d.]+)%</td></tr>", page)]
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_a_sum_shows_both_prices(tmp_path: Path) -> None:
    summed = finished_synthesis(tmp_path / "runs", mode="sum")
    page = render(summed)
    assert summed.facts.epsilon < summed.facts.epsilon_without_masks
    assert f"{summed.facts.epsilon:.3f}" in page
    assert f"{summed.facts.epsilon_without_masks:.3f}" in page
    assert "while the masks hold" in page


def test_rows_of_the_sites_have_a_page_too(tmp_path: Path) -> None:
    page = render(finished_synthesis(tmp_path / "runs", mode="table"))
    assert "made at the sites" in page
    assert ">400<" in page


def test_says_how_to_measure_what_a_model_learns(release: SyntheticRelease, page: str) -> None:
    assert f'run = "{release.run_id}"' in page


def test_escapes_what_a_site_declared(release: SyntheticRelease) -> None:
    hostile = "<script>alert(1)</script>"
    facts = release.facts
    schema = facts.declared.model_copy(
        update={"dataset": facts.declared.dataset.model_copy(update={"name": hostile})}
    )
    told = facts.model_copy(update={"declared": schema})
    page = render(
        SyntheticRelease(
            release.run_id, release.job, told, release.tables, release.generator, release.rows
        )
    )
    assert "<script" not in page
