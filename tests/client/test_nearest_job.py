"""The nearest job that would pass: it passes, and with any change less or smaller it does not."""

import datetime as dt
import tomllib
from pathlib import Path

import pytest
from one_site import JOB, NAME, POLICY, SCHEMA, make_job
from small_job import read_file

from sordino_client.data.declaration import DatasetFile
from sordino_client.nearest_job import Asked, Change, nearest_job
from sordino_client.policy import Policy, parse_policy
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job, JobFile
from sordino_protocols.pricing import price, resolve
from sordino_protocols.schema import Schema

DECLARED: Schema = parse_toml(SCHEMA, DatasetFile, source="heart.toml").public
NOW = dt.datetime(2026, 11, 25, 11, 30, tzinfo=dt.UTC)
CAPS = POLICY.replace("max_rounds = 50", "max_rounds = 50\n{}")

RULES = """\
[[datasets.heart.rules]]
action = "ask"
max_epsilon = 2.0
max_rounds = 2
[[datasets.heart.rules]]
action = "allow"
max_epsilon = 1.5
[[datasets.heart.rules]]
action = "allow"
max_epsilon = 2.5
max_lanes = 4
"""


def read(text: str) -> Policy:
    return parse_policy(text, Path("policy.toml"))


def ask(job: Job | None = None, *, submitter: str = "scientist") -> Asked:
    job = job or make_job()
    return Asked(job, price(job), submitter, NAME, schema=DECLARED, now=NOW)


def keys(changes: tuple[Change, ...]) -> list[str]:
    return [f"{each.section}.{each.key}".rstrip(".") for each in changes]


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("max_epsilon = 4.0", "max_epsilon = 2.0", {"privacy.epsilon": 2.0}),
        ("max_delta = 1e-5", "max_delta = 1e-6", {"privacy.delta": 1e-6}),
        ("max_rounds = 50", "max_rounds = 2", {"training.rounds": 2}),
        ("max_rounds = 50", "max_rounds = 50\nmax_steps = 2", {"training.rounds": 2}),
        (
            "max_rounds = 50",
            "max_rounds = 50\nmax_clipping_norm = 0.25",
            {"training.clipping_norm": 0.25},
        ),
        (
            "max_rounds = 50",
            "max_rounds = 50\nmin_clipping_norm = 0.75",
            {"training.clipping_norm": 0.75},
        ),
        ("max_rounds = 50", "max_rounds = 50\nmax_lanes = 3", {"audit.lanes": 3}),
        (
            "max_rounds = 50",
            'max_rounds = 50\ncolumns = ["chol", "age"]',
            {"job.columns": ("age", "chol")},
        ),
        (
            'models = ["logistic", "mlp"]\nmax_epsilon = 4.0',
            'models = ["mlp"]\nmax_epsilon = 2.0',
            {"privacy.epsilon": 2.0, "model": None},
        ),
    ],
)
def test_each_cap_leads_to_the_bound_that_it_sets(
    old: str, new: str, changed: dict[str, float | tuple[str, ...] | None]
) -> None:
    assert POLICY.count(old) == 1
    policy = read(POLICY.replace(old, new))
    near = nearest_job(policy, ask())
    assert near is not None
    assert set(keys(near.changes)) == set(changed)
    for change in near.changes:
        wanted = changed["model" if change.section == "model" else f"{change.section}.{change.key}"]
        assert wanted is None or change.new == wanted
    assert ask(resolve(near.file)).decision(policy).is_allowed
    assert not ask().decision(policy).is_allowed


def test_of_the_rules_the_one_with_the_fewest_changes_is_shown() -> None:
    policy = read(POLICY + RULES)
    near = nearest_job(policy, ask())
    assert near is not None
    # Epsilon alone by the second rule; the others would change two keys.
    assert keys(near.changes) == ["privacy.epsilon"]
    assert near.decision.action == "allow"
    assert near.file.require_privacy().epsilon == 1.5
    with_fewer_lanes = make_job(JOB.replace("lanes = 8", "lanes = 4"))
    near = nearest_job(policy, ask(with_fewer_lanes))
    assert near is not None
    assert near.decision.rule.endswith("rules[1]")


def test_what_needs_nobodys_yes_comes_first() -> None:
    asking = POLICY + (
        '[[datasets.heart.rules]]\naction = "ask"\nmax_rounds = 2\n'
        '[[datasets.heart.rules]]\naction = "allow"\nmax_epsilon = 2.0\n'
    )
    near = nearest_job(read(asking), ask())
    assert near is not None
    assert near.decision.action == "allow"
    only_asking = asking.replace('"allow"', '"ask"')
    near = nearest_job(read(only_asking), ask())
    assert near is not None
    assert near.decision.action == "ask"


def test_every_change_is_needed_and_none_can_be_smaller() -> None:
    policy = read(
        POLICY.replace("max_epsilon = 4.0", "max_epsilon = 2.0")
        .replace("max_rounds = 50", "max_rounds = 2\nmax_lanes = 5")
        .replace("min_expected_batch = 20", "min_expected_batch = 33.3333")
    )
    far = make_job(JOB.replace("sampling_rate = 1", "sampling_rate = 0.2"))
    near = nearest_job(policy, ask(far))
    assert near is not None
    assert keys(near.changes) == [
        "privacy.epsilon",
        "training.rounds",
        "training.sampling_rate",
        "audit.lanes",
    ]
    assert ask(resolve(near.file)).decision(policy).is_allowed
    for change in near.changes:
        old, new = change.old, change.new
        assert isinstance(old, int | float)
        assert isinstance(new, int | float)
        step = 1 if isinstance(new, int) else abs(old - new) / 100
        raw = near.file.model_dump()
        raw[change.section][change.key] = new + step if old > new else new - step
        nearer = JobFile.model_validate(raw)
        decision = ask(resolve(nearer)).decision(policy)
        assert not decision.is_allowed, change


def test_the_fragment_says_what_to_write_and_what_it_was() -> None:
    policy = read(
        POLICY.replace('"logistic", "mlp"', '"mlp"').replace("max_rounds = 50", "max_rounds = 2")
    )
    near = nearest_job(policy, ask())
    assert near is not None
    text = near.toml()
    assert "rounds = 2  # was 3\n" in text
    assert 'kind = "mlp"  # was kind = "logistic"\n' in text
    fragment = tomllib.loads(text)
    assert fragment["training"] == {"rounds": 2}
    assert fragment["model"]["kind"] == "mlp"


def test_local_steps_go_down_only_where_one_round_has_too_many() -> None:
    job = make_job(JOB.replace("rounds = 3", "rounds = 3\nlocal_steps = 4"))
    policy = read(POLICY.replace("max_rounds = 50", "max_rounds = 50\nmax_steps = 9"))
    near = nearest_job(policy, ask(job))
    assert near is not None
    assert near.toml() == "[training]\nrounds = 2  # was 3\n"
    policy = read(POLICY.replace("max_rounds = 50", "max_rounds = 50\nmax_steps = 3"))
    near = nearest_job(policy, ask(job))
    assert near is not None
    assert near.toml() == "[training]\nlocal_steps = 3  # was 4\nrounds = 1  # was 3\n"


def test_an_adaptive_norm_starts_where_it_cannot_leave_the_bounds() -> None:
    job = make_job(JOB.replace("[optimizer]", 'clipping = {kind = "adaptive"}\n[optimizer]'))
    policy = read(POLICY.replace("max_rounds = 50", "max_rounds = 50\nmax_clipping_norm = 10"))
    near = nearest_job(policy, ask(job))
    assert near is not None
    assert near.file.require_training().clipping_norm == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('submitters = ["scientist"]', 'submitters = ["somebody"]'),
        ('kinds = ["train"]', 'kinds = ["validate"]'),
        ('models = ["logistic", "mlp"]', 'models = ["cnn"]'),
        ("min_expected_batch = 20", "min_expected_batch = 101"),
        ("max_rounds = 50", "max_rounds = 50\nmin_units = 101"),
        ("max_rounds = 50", 'max_rounds = 50\nunits = ["entity"]'),
        ("max_rounds = 50", 'max_rounds = 50\ncolumns = ["other"]'),
        ("max_rounds = 50", 'max_rounds = 50\nhours = "20:00-06:00"'),
        ("[datasets.heart]", "[datasets.lung]"),
        ("[budgets.heart]", "[budgets.lung]"),
    ],
)
def test_where_no_change_of_the_job_helps_none_is_shown(old: str, new: str) -> None:
    text = 'time_zone = "UTC"\n' + POLICY.replace(old, new)
    policy = read(text)
    assert not ask().decision(policy).is_allowed
    assert nearest_job(policy, ask()) is None


COUNT = """
[job]
name = "small"
kind = "count"
dataset = "heart"
[privacy]
unit = "record"
epsilon = 3
delta = 1e-5
[[counting.queries]]
name = "old"
where = { age = ">= 60" }
"""
COUNTED = POLICY.replace('["train"]', '["train", "count"]')


def test_a_count_is_brought_within_epsilon_and_is_not_asked_for_other_columns() -> None:
    asked = ask(resolve(read_file(COUNT)))
    assert asked.decision(read(COUNTED)).is_allowed
    near = nearest_job(read(COUNTED.replace("max_epsilon = 4.0", "max_epsilon = 2.0")), asked)
    assert near is not None
    assert keys(near.changes) == ["privacy.epsilon"]
    # A count of age is held to age alone, and of another column it would be another count.
    held = read(COUNTED.replace("max_rounds = 50", 'max_rounds = 50\ncolumns = ["age"]'))
    assert asked.decision(held).is_allowed
    other = read(COUNTED.replace("max_rounds = 50", 'max_rounds = 50\ncolumns = ["chol"]'))
    assert not asked.decision(other).is_allowed
    assert nearest_job(other, asked) is None
