"""The page: complete, self-contained, escaped, and true to the result."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plausible_run import plausible_run

from sordino.page import render, write
from sordino.result import EvaluationSection, Quality, RunResult
from sordino_protocols.plan import LossName
from sordino_protocols.scorecard import Figure

VOID = {"meta", "br", "hr", "img", "input", "link"}


class _Checker(HTMLParser):
    """Collects tags and attributes, and insists on balanced tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)


@pytest.fixture(scope="module")
def result() -> RunResult:
    return plausible_run()


@pytest.fixture(scope="module")
def html(result: RunResult) -> str:
    return render(result)


def _check(html: str) -> _Checker:
    checker = _Checker()
    checker.feed(html)
    return checker


def test_is_balanced_and_has_all_drawings(html: str) -> None:
    checker = _check(html)
    assert checker.open == []
    assert checker.tags.count("svg") == 7


def test_loads_nothing_and_runs_nothing(html: str) -> None:
    checker = _check(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(checker.tags)
    assert all(reference.startswith("#") for reference in checker.references)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "http" not in html


def test_drawings_take_their_colours_from_the_page(html: str) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "var(--ink)" in drawings
    assert not re.findall(r"#0[1-9]0[1-9]0[1-9]", drawings)
    # What remains would stay black or white whatever the theme.
    assert not re.findall(r"(?:fill|stroke): #(?:000000|ffffff)", drawings)


def test_drawings_do_not_share_identifiers_with_different_content(html: str) -> None:
    seen: dict[str, str] = {}
    clips = re.findall(r'<clipPath id="([^"]+)">(.*?)</clipPath>', html, flags=re.DOTALL)
    for identifier, content in clips:
        assert seen.setdefault(identifier, content) == content
    for reference in re.findall(r"url\(#([^)]+)\)", html):
        assert reference in seen


def test_is_small(html: str) -> None:
    assert len(html.encode()) < 400_000


def test_shows_the_figures_of_the_result(html: str, result: RunResult) -> None:
    assert "81.2%" in html
    assert "0.886" in html
    assert f"{result['audit'].lower_bound:.2f}" in html
    assert result["audit"].hash in html
    for site in result["sites"]:
        assert site["name"] in html


@pytest.mark.parametrize(
    ("loss", "name", "counts", "says"),
    [
        ("binary", "auc", [[9.0, -1], [2, 8]], "AUC 0.801 (0.700 to 0.900)"),
        ("cross_entropy", "balanced_accuracy", [[1.0, 9]] * 30, "Balanced accuracy 0.801"),
        ("squared", "mean_absolute_error", [[9.0, 4, -1, 0]], "Mean absolute error 0.801"),
        (
            "likelihood",
            "negative_log_likelihood",
            [[9.0, 4, -1, 0]],
            "Negative log-likelihood a column 0.801",
        ),
    ],
)
def test_shows_the_evaluation_of_each_task(
    result: RunResult, loss: LossName, name: Figure, counts: list[list[float]], says: str
) -> None:
    evaluation = EvaluationSection(
        loss=loss,
        figures={name: {"value": 0.801, "interval": [0.7, 0.9]}},
        epsilon=0.5,
        counts=counts,
        label_scale=10.0,
    )
    html = render({**result, "evaluation": evaluation})
    assert says in html
    assert _check(html).tags.count("svg") == 7


def test_shows_errors_in_the_labels_units(result: RunResult) -> None:
    exact: Quality = {"mean_absolute_error": 12_345.6, "root_mean_squared_error": 0.98765}
    html = render(
        {
            **result,
            "job": {**result["job"], "unit": "entity", "errors_in": "cost <EUR>"},
            "exact": exact,
            "baselines": {
                "central": exact,
                "alone": {"mean": exact, "sites": {"north": exact}},
                "left_out": [],
            },
        }
    )
    assert "12,346" in html
    # In two lines: side by side, the panels have no room for one.
    assert "Root mean squared</" in html
    assert "0.9877" in html
    assert "cost &lt;EUR&gt;" in html
    assert "one record of each entity" in html
    assert _check(html).open == []


def test_says_which_rival_was_left_out_and_why(result: RunResult) -> None:
    html = render(
        {**result, "baselines": {"central": None, "alone": None, "left_out": ["Too long."]}}
    )
    assert "Left out. Too long." in html
    assert "without protection" not in html
    assert "for a site alone" not in html
    assert _check(html).tags.count("svg") == 7


def test_escapes_what_others_wrote(result: RunResult) -> None:
    hostile = "<script>alert(1)</script>"
    html = render(
        {
            **result,
            "job": {**result["job"], "name": hostile},
            "sites": [{**site, "name": hostile} for site in result["sites"]],
        }
    )
    assert hostile not in html
    assert "script" not in _check(html).tags


def test_is_the_same_for_the_same_result(html: str, result: RunResult) -> None:
    assert render(result) == html


def test_says_so_when_the_promise_was_broken() -> None:
    html = render(plausible_run(noise_ratio=0.6))
    assert "Promise broken" in html
    assert "there is less noise than claimed" in html
    assert 'class="verdict violation"' in html


def test_leads_to_the_audits_own_page(result: RunResult, html: str) -> None:
    assert "the audit's own page" not in html
    linked = render({**result, "audit_page": "audit.html"})
    assert _check(linked).references.count("audit.html") == 1


def test_writes_a_file(result: RunResult, html: str, tmp_path: Path) -> None:
    write(result, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html
