"""The page of an audit: complete, self-contained, escaped, and true to the document."""

import re
from html.parser import HTMLParser
from typing import get_args

import numpy as np
import pytest
from audit_documents import of_a_run, of_an_installation, with_e_values

from sordino_audit.audit_document import AuditDocument, Kind
from sordino_audit.audit_entries import AttackEntry, MeasurementEntry
from sordino_audit.audit_words import next_step, promise, title_of
from sordino_audit.findings import Verdict
from sordino_audit.measurement_plot import MOST_ROWS, drawn
from sordino_audit.report_page import render
from sordino_audit.report_plots import error_rates, roc_steps

VOID = {"meta", "br", "hr", "img", "input", "link"}


class _Checker(HTMLParser):
    """Collects tags and references, and insists on balanced tags."""

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


def checked(html: str) -> _Checker:
    checker = _Checker()
    checker.feed(html)
    assert checker.open == []
    return checker


@pytest.fixture(scope="module")
def document() -> AuditDocument:
    return with_e_values(of_a_run())


@pytest.fixture(scope="module")
def html(document: AuditDocument) -> str:
    return render(document)


def attack(inserted: list[float], held_out: list[float]) -> AttackEntry:
    return AttackEntry(
        name="loss",
        assumption="the model",
        inserted=tuple(inserted),
        held_out=tuple(held_out),
        auc=0.5,
        tpr_at=(),
        epsilon_low=None,
        confidence=0.95,
        could_have_found="",
    )


def test_has_every_drawing(html: str) -> None:
    assert checked(html).tags.count("svg") == 6


def test_loads_nothing_and_runs_nothing(html: str) -> None:
    checker = checked(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(checker.tags)
    assert all(reference.startswith("#") for reference in checker.references)
    assert "http" not in html
    assert not re.search(r"url\((?!#)|@import", html)
    assert len(html.encode()) < 400_000


def test_drawings_take_their_colours_from_the_page(html: str) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "var(--ink)" in drawings
    assert not re.findall(r"#0[1-9]0[1-9]0[1-9]", html)
    assert not re.findall(r"(?:fill|stroke): #(?:000000|ffffff)", drawings)


def test_says_all_that_the_document_says(html: str, document: AuditDocument) -> None:
    text = re.sub(r"\s+", " ", html)
    for each in (document.sentence, document.power.sentence, document.hash, *document.blind_spots):
        assert each.replace("'", "&#39;") in text
    said = [(each.name, each.assumption) for each in document.bounds]
    said += [(each.name, each.assumption) for each in document.tests]
    for name, assumption in said:
        assert name in html
        assert assumption in html
    assert "500 lanes" not in html
    assert "100 lanes in each of 1 layer" in text


def test_the_same_document_makes_the_same_page(html: str, document: AuditDocument) -> None:
    assert render(document) == html


def test_parts_without_content_are_left_out() -> None:
    html = render(of_an_installation())
    assert checked(html).tags.count("svg") == 0
    for absent in ("What was promised", "Tests of the claim", "Evidence over all runs"):
        assert absent not in re.sub(r"<dl>.*?</dl>|<style>.*?</style>", "", html, flags=re.DOTALL)
    assert "2 of 2" in html


def test_a_failed_check_stands_out() -> None:
    html = render(of_an_installation(is_passed=False))
    assert 'class="failed"' in html
    assert "Promise broken" in html
    assert "<strong>1 failed</strong>" in html
    assert next_step("self-test", Verdict.VIOLATION) in re.sub(r"\s+", " ", html)


def test_findings_come_first() -> None:
    html = render(of_a_run(noise_ratio=0.5))
    assert html.index("What should not be") < html.index("The claim, and what the attack showed")
    assert 'class="violation"' in html


def test_a_powerless_audit_is_shown_as_such() -> None:
    html = render(of_a_run(lanes=2, rounds=1, sites=1))
    assert "Inconclusive." in html
    checked(html)


def test_escapes_what_others_wrote(document: AuditDocument) -> None:
    hostile = "<script>alert(1)</script>"
    html = render(document.model_copy(update={"subject": hostile, "run_id": hostile}))
    assert "script" not in checked(html).tags
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("kind", get_args(Kind))
def test_no_words_promise_what_no_audit_can_know(verdict: Verdict, kind: Kind) -> None:
    words = f"{title_of(kind, verdict)} {next_step(kind, verdict)}"
    assert not re.search(r"\b(safe|secure|proved|proven|guaranteed|anonymous|certain)\b", words)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_its_words(verdict: Verdict, document: AuditDocument) -> None:
    changed = {"verdict": verdict, "exit_code": int(verdict.exit_code)}
    html = render(document.model_copy(update=changed))
    assert f'class="verdict {verdict.value}"' in html


def test_error_rates_are_those_of_the_scores() -> None:
    rates = error_rates(attack([1.0, 2, 3, 4], [0.0, 1, 2, 3]))
    assert rates[0].tolist() == [1.0, 0.0]
    # Guessing "inserted" from 4 on: no false positive, three of four missed.
    assert rates[-1].tolist() == [0.0, 0.75]
    assert (np.diff(rates[:, 0]) <= 0).all()


def test_the_roc_is_that_of_steps() -> None:
    false, true = roc_steps(attack([0.5, 2.5, 9], [0.0, 1, 2, 3]))
    # Above the highest stranger lies one of three; above the second highest, two.
    assert list(zip(false.tolist(), np.round(true * 3).tolist(), strict=True)) == [
        (0.0, 1),
        (0.25, 2),
        (0.5, 2),
        (0.75, 3),
        (1.0, 3),
    ]


def test_of_many_measurements_the_farthest_are_drawn(document: AuditDocument) -> None:
    many = tuple(
        MeasurementEntry(
            name=f"layer {number}",
            expected=1.0,
            low=1.0,
            value=1.0 + number / 100,
            high=2.0,
            confidence=0.95,
        )
        for number in range(2 * MOST_ROWS)
    )
    shown = drawn(document.model_copy(update={"measurements": many}))
    assert list(shown) == list(many[MOST_ROWS:])


@pytest.mark.parametrize(
    ("epsilon", "expected"), [(1.0, "at most 3 in 100"), (4.0, "at most 55 in 100")]
)
def test_the_promise_is_the_best_attack_that_the_guarantee_allows(
    epsilon: float, expected: str
) -> None:
    assert expected in promise(epsilon, 1e-5)
