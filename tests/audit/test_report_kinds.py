"""Documents of audits without lanes of a run: replays, inference, and their pages."""

from html import unescape
from pathlib import Path

import pytest
from audit_documents import OCCASION
from small_replay import small_design, small_plan

from sordino_audit.audit_code import AUDIT, Execution, inferred, replayed
from sordino_audit.audit_config import AuditConfig
from sordino_audit.audit_document import AuditDocument, InferenceDetail, ReplayDetail
from sordino_audit.findings import UNKNOWN, Finding, Interval, Severity, Verdict
from sordino_audit.inference.result import InferenceAudit
from sordino_audit.report_code import inference_document
from sordino_audit.report_page import render
from sordino_audit.sealing import read_document, to_json
from sordino_audit.series import Series
from sordino_protocols.errors import InputError


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("replays")


@pytest.fixture(scope="module")
def replay(directory: Path) -> AuditDocument:
    execution = Execution(directory / "out", "local", 1)
    plan = small_plan(small_design(seed=7))
    return replayed(plan, execution, AuditConfig(reports=directory / "reports")).document


def test_a_replay_is_filed_in_its_directory_and_in_the_series(
    replay: AuditDocument, directory: Path
) -> None:
    content = (directory / "out" / AUDIT).read_bytes()
    assert read_document(content, source="audit.json") == replay
    assert Series(directory / "reports").latest().document == replay
    assert (replay.kind, replay.subject, replay.run_id) == ("replay", "small", None)
    assert replay.provenance.seeds == (7,)


def test_a_replay_says_what_was_run(replay: AuditDocument) -> None:
    assert isinstance(replay.detail, ReplayDetail)
    assert (replay.detail.federations, replay.detail.sites, replay.detail.rounds) == (8, 3, 3)
    assert {each.kind for each in replay.detail.kinds} == {"blank", "mislabelled", "crafted"}
    assert replay.detail.checkpoints[-1].round == 3
    assert len(replay.attacks) > 3
    assert replay.lower_bound is not None
    assert replay.claimed is not None
    assert replay.lower_bound <= replay.claimed


def test_a_replay_is_not_made_in_a_directory_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(InputError, match="name another one"):
        replayed(small_plan(), Execution(tmp_path, "local", 1), AuditConfig())


def test_the_page_of_a_replay_has_its_parts(replay: AuditDocument) -> None:
    html = unescape(render(replay))
    for part in ("The model in the course of training", "By kind of canary", "Attacks"):
        assert part in html
    for attack in replay.attacks:
        assert attack.name in html


def inference(verdict: Verdict) -> AuditDocument:
    is_suspect = verdict is Verdict.SUSPECT
    findings = (Finding("advantage", Severity.SUSPECT, "smoking is guessed too well"),)
    audit = InferenceAudit(
        kind="attribute",
        target="smoking",
        verdict=verdict,
        findings=findings if is_suspect else (),
        advantage=Interval(0.1, 0.2, 0.3) if is_suspect else Interval(-0.1, 0.0, 0.1),
        on_others=UNKNOWN,
        confidence=0.95,
        tolerance=0.05,
        right=0.8,
        baseline=0.6,
        guesses=200,
        could_have_found="It would have noticed an advantage of 12%.",
        blind_spots=("It tried one attack.",),
    )
    return inference_document(audit, occasion=OCCASION)


def test_inference_breaks_no_promise_and_says_so() -> None:
    document = inference(Verdict.SUSPECT)
    assert document.claimed is None
    assert "does not forbid it" in document.sentence
    assert [each.name for each in document.measurements] == ["advantage"]
    assert isinstance(document.detail, InferenceDetail)
    assert "No promise was broken" in render(document)
    assert read_document(to_json(document).encode(), source="x") == document


def test_only_a_category_is_inferred() -> None:
    with pytest.raises(InputError, match="age"):
        inferred(small_plan(), "age", None, AuditConfig())


@pytest.mark.parametrize(
    ("verdict", "says"),
    [(Verdict.LOOSE, "adds no more"), (Verdict.INCONCLUSIVE, "too few guesses")],
)
def test_inference_says_what_it_found(verdict: Verdict, says: str) -> None:
    assert says in inference(verdict).sentence
