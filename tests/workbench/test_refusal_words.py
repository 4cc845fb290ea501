"""A refusal as a person reads it: what, the rule, the line of the job, what to do."""

import re
from pathlib import Path

import pytest

from sordino.refusal_words import EXPLANATIONS, explain, names_a_refusal, refusal_text
from sordino_protocols.errors import ExitCode
from sordino_protocols.messages import Refusal

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text('[job]\nname = "x"\n\n[privacy]\nunit = "record"\nepsilon = 2.0\n')
    return path


def test_every_refusal_has_a_reference_of_its_own_and_a_help() -> None:
    assert set(EXPLANATIONS) == set(Refusal)
    references = [each.reference for each in EXPLANATIONS.values()]
    assert len(set(references)) == len(references)
    for refusal, each in EXPLANATIONS.items():
        exhausted = refusal is Refusal.BUDGET_EXHAUSTED
        code = ExitCode.BUDGET_EXHAUSTED if exhausted else ExitCode.REFUSED
        assert re.fullmatch(rf"E{code:02d}\d\d", each.reference)
        assert each.why
        assert each.help


def test_a_budget_that_does_not_suffice_is_shown_with_what_would_fit(job: Path) -> None:
    row = {
        "site": "cleveland",
        "refusal": "budget_exhausted",
        "rule": "policy.toml:31 budgets.heart",
        "epsilon_rdp": 2.0,
        "budget_left": 1.3,
        "rounds_that_fit": 4,
        "noise_that_fits": 7.5,
    }
    assert refusal_text(row, job).splitlines() == [
        "error[E0412]: cleveland refused this job: its privacy budget does not suffice",
        "  rule   policy.toml:31 budgets.heart",
        "  job    job.toml:6 privacy.epsilon",
        "  costs  epsilon 2, of which 1.3 is left",
        "  fits   4 rounds with this noise; all of them with noise 7.5",
        "  help   lower privacy.epsilon, or ask the site's admin to raise its budget",
    ]


def test_a_rule_is_shown_with_the_line_of_the_job_that_it_is_about(job: Path) -> None:
    rule = "policy.toml:8 datasets.heart.max_epsilon"
    text = refusal_text({"site": "a", "refusal": "forbidden_by_policy", "rule": rule}, job)
    assert f"  rule   {rule}\n  job    job.toml:6 privacy.epsilon\n" in text
    assert text.startswith("error[E0308]: a refused this job: its policy does not allow")


def test_what_has_no_rule_says_what_and_what_to_do(job: Path) -> None:
    text = refusal_text({"site": "a", "refusal": "unknown_dataset", "rule": None}, job)
    assert text.splitlines()[1:] == ["  help   name the sites that have it in cohort.sites"]


def test_a_reason_with_a_refusal_is_told_from_one_without() -> None:
    reason = "1 of 2 sites admitted; the job needs 2 (a: no_policy, it has no policy)"
    assert names_a_refusal(reason)
    assert not names_a_refusal(reason.replace("no_policy", "unreachable"))


def test_a_word_of_a_newer_site_is_shown_as_it_is(job: Path) -> None:
    assert explain("moon_in_aries").reference == "E0300"
    assert "moon_in_aries" in refusal_text({"site": "a", "refusal": "moon_in_aries"}, job)


def test_the_documentation_lists_every_reference_with_the_words_that_are_said() -> None:
    table = (DOCS / "command-line.md").read_text().split("| reference |", 1)[1]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line[:3] == "| E"]
    assert rows == [
        [each.reference, refusal.value, each.why, each.help]
        for refusal, each in EXPLANATIONS.items()
    ]
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def test_the_documentation_lists_every_exit_code() -> None:
    table = (DOCS / "command-line.md").read_text().split("## Exit codes", 1)[1]
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", table, flags=re.MULTILINE)]
    assert listed == sorted(ExitCode)
