"""How a job chooses what is made of its sites' updates."""

import json

import pytest
from federation import JOB, make_job
from small_job import VALIDATION, job_text, read_file

from sordino_protocols.aggregation_rules import (
    MEAN,
    KrumAggregation,
    MedianAggregation,
    TrimmedMeanAggregation,
)
from sordino_protocols.errors import InputError
from sordino_protocols.job import read_job


def with_rule(rule: str, *, quorum: int = 7, text: str = JOB) -> str:
    return text.replace("quorum = 2", f"quorum = {quorum}\naggregation = {rule}")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ('"mean"', MEAN),
        ('{ kind = "mean" }', MEAN),
        ('"median"', MedianAggregation(kind="median")),
        ('"trimmed_mean"', TrimmedMeanAggregation(kind="trimmed_mean", bad_sites=1)),
        (
            '{ kind = "trimmed_mean", bad_sites = 3 }',
            TrimmedMeanAggregation(kind="trimmed_mean", bad_sites=3),
        ),
        ('{ kind = "krum", bad_sites = 2 }', KrumAggregation(kind="krum", bad_sites=2)),
        ('{ kind = "krum", keep = 4 }', KrumAggregation(kind="krum", keep=4)),
    ],
)
def test_a_rule_is_named_or_spelled_out(rule: str, expected: object) -> None:
    assert read_file(with_rule(rule)).cohort.aggregation == expected


@pytest.mark.parametrize(
    "rule",
    [
        '"average"',
        '{ kind = "median", bad_sites = 1 }',
        '{ kind = "trimmed_mean", bad_sites = 0 }',
        '{ kind = "krum", keep = 0 }',
        '{ kind = "krum", assumed = 1 }',
        "3",
    ],
)
def test_what_is_no_rule_is_refused_by_its_place(rule: str) -> None:
    with pytest.raises(InputError, match="aggregation"):
        read_file(with_rule(rule))


@pytest.mark.parametrize(
    ("rule", "least"),
    [
        ('"median"', 3),
        ('"trimmed_mean"', 3),
        ('{ kind = "trimmed_mean", bad_sites = 3 }', 7),
        ('"krum"', 5),
        ('{ kind = "krum", bad_sites = 2 }', 7),
        ('{ kind = "krum", keep = 6 }', 9),
    ],
)
def test_a_rule_needs_a_quorum_that_can_outvote_the_bad(rule: str, least: int) -> None:
    read_file(with_rule(rule, quorum=least))
    with pytest.raises(InputError, match=f"quorum of at least {least}"):
        read_file(with_rule(rule, quorum=least - 1))


@pytest.mark.parametrize(
    "optimizer", ['kind = "adam"\nlearning_rate = 0.01', 'kind = "sgld"\nlearning_rate = 0.01']
)
def test_optimisers_that_count_on_the_noise_of_a_mean_refuse_another_rule(optimizer: str) -> None:
    text = with_rule('"median"').replace("learning_rate = 2.0", optimizer)
    with pytest.raises(InputError, match=r"'median' needs optimizer\.kind = 'sgd'"):
        read_file(text)
    read_file(text.replace('"median"', '"mean"'))


def test_a_job_without_rounds_has_nothing_to_aggregate() -> None:
    text = VALIDATION.replace("quorum = 2", 'quorum = 2\naggregation = "mean"')
    read_file(text)
    with pytest.raises(InputError, match=r"cohort.aggregation is about the rounds"):
        read_file(
            text.replace('"mean"', '"median"').replace(
                '"va"]\nquorum = 2', '"va", "b"]\nquorum = 3'
            )
        )


def test_jobs_from_before_there_was_a_choice_keep_their_digest() -> None:
    plain = make_job(job_text("[audit]\nlanes = 8\n[cohort]\nquorum = 2"))
    named = make_job(job_text('[audit]\nlanes = 8\n[cohort]\nquorum = 2\naggregation = "mean"'))
    assert plain.digest() == named.digest()
    assert "aggregation" not in json.loads(plain.canonical())["file"]["cohort"]
    assert read_job(plain.canonical()) == plain


def test_a_chosen_rule_is_signed() -> None:
    job = make_job(with_rule('"krum"'))
    assert json.loads(job.canonical())["file"]["cohort"]["aggregation"] == {
        "kind": "krum",
        "bad_sites": 1,
        "keep": 1,
    }
    assert read_job(job.canonical()) == job
