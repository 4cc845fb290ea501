"""Each key of a policy: that it alone can refuse a job; and how rules decide."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from one_site import JOB, NAME, POLICY, SCHEMA, make_job
from policies import EVERY_KEY, WITH_RULES

from sordino_client.data.declaration import DatasetFile
from sordino_client.policy import Decision, Policy, decide, parse_policy
from sordino_client.policy_problems import KEYS, remarks
from sordino_client.policy_rules import Request, checks, request_of
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job
from sordino_protocols.messages import Refusal
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.pricing import Price
from sordino_protocols.schema import Schema

DECLARED: Schema = parse_toml(SCHEMA, DatasetFile, source="heart.toml").public
COST = Price(3.0, 3.3, 1e-5)
NOON = dt.datetime(2026, 11, 25, 11, 30, tzinfo=dt.UTC)  # a Wednesday; 12:30 in Zurich


def read(text: str) -> Policy:
    return parse_policy(text, Path("/etc/sordino/policy.toml"))


def judge(
    text: str,
    *,
    job: Job | None = None,
    epsilon: float = 3.0,
    submitter: str = "scientist",
    now: dt.datetime = NOON,
    schema: Schema = DECLARED,
) -> Decision:
    cost = replace(COST, epsilon_pld=epsilon)
    return decide(
        read(text),
        job or make_job(),
        cost,
        submitter=submitter,
        site=NAME,
        schema=schema,
        now=now,
    )


def variant(old: str, new: str) -> Job:
    """The job with another text, at the noise of the first: only its plan differs."""
    assert old in JOB
    text = JOB.replace(old, new)
    file = parse_toml(text, type(make_job().file), source="job.toml")
    return make_job().model_copy(update={"file": file})


def base() -> Request:
    """A request that every key says something to, which no job is."""
    zurich = read(EVERY_KEY).file.clock
    asked = request_of(
        make_job(), COST, submitter="scientist", schema=DECLARED, at=NOON.astimezone(zurich)
    )
    return replace(asked, mode="local", generator="mixture", queries=5)


def with_training(change: Callable[[TrainingPlan], TrainingPlan]) -> Callable[[Request], Request]:
    def changed(request: Request) -> Request:
        assert request.training is not None
        return replace(request, training=change(request.training))

    return changed


def at(moment: str) -> Callable[[Request], Request]:
    return lambda request: replace(
        request, at=dt.datetime.fromisoformat(moment).replace(tzinfo=request.at.tzinfo)
    )


ONLY_THIS_REFUSES: dict[str, Callable[[Request], Request]] = {
    "submitters": lambda request: replace(request, submitter="intern"),
    "kinds": lambda request: replace(request, kind="validate"),
    "models": lambda request: replace(request, model="mlp"),
    "modes": lambda request: replace(request, mode="table"),
    "generators": lambda request: replace(request, generator="vae"),
    "units": lambda request: replace(request, unit="entity"),
    "columns": lambda request: replace(request, columns=frozenset({"age", "hiv"})),
    "max_epsilon": lambda request: replace(request, epsilon=3.0001),
    "max_delta": lambda request: replace(request, delta=1.1e-5),
    "max_rounds": with_training(lambda plan: replace(plan, rounds=4)),
    "max_steps": with_training(lambda plan: replace(plan, rounds=1, local_steps=4)),
    "min_units": lambda request: replace(
        with_training(lambda plan: replace(plan, sampling_rate=1.02))(request), units=99
    ),
    "min_expected_batch": with_training(lambda plan: replace(plan, sampling_rate=0.99)),
    "min_clipping_norm": with_training(lambda plan: replace(plan, clipping_norm=0.49)),
    "max_clipping_norm": with_training(lambda plan: replace(plan, clipping_norm=0.51)),
    "max_lanes": with_training(lambda plan: replace(plan, lanes=9)),
    "max_queries": lambda request: replace(request, queries=6),
    "hours": at("2026-11-25T18:00"),
    "days": at("2026-11-25T12:00"),
    "from": at("2026-11-24T12:00"),
    "until": at("2026-11-26T12:00"),
}


@pytest.mark.parametrize("key", KEYS)
def test_for_each_key_there_is_a_job_that_only_it_refuses(key: str) -> None:
    text = EVERY_KEY
    if key == "days":
        text = text.replace('"wed", ', "")
    if key == "max_rounds":
        text = text.replace("max_steps = 3", "max_steps = 4")
    section = read(text).file.datasets["heart"]
    results = checks(section, ONLY_THIS_REFUSES[key](base()))
    assert [each.key for each in results] == list(KEYS)
    assert [each.key for each in results if not each.holds] == [key]
    # Where the check is left out, the job passes: no other key would notice.
    assert all(each.holds for each in results if each.key != key)


def test_the_job_that_the_others_differ_from_is_allowed_to_the_last_digit() -> None:
    assert all(each.holds for each in checks(read(EVERY_KEY).file.datasets["heart"], base()))


def test_a_validation_is_held_to_what_it_has() -> None:
    section = read(EVERY_KEY).file.datasets["heart"]
    validation = replace(base(), kind="validate", training=None)
    broken = [each.key for each in checks(section, validation) if not each.holds]
    assert broken == ["kinds"]


# ---------------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("moment", "is_allowed"),
    [
        ("2026-03-29T06:59+02:00", False),
        ("2026-03-29T07:00+02:00", True),  # the first morning of summer time
        ("2026-03-28T07:00+01:00", True),
        ("2026-03-28T06:00+00:00", True),
        ("2026-03-29T05:00+00:00", True),  # the same clock is another moment
        ("2026-03-29T06:00+00:00", True),
        ("2026-03-28T05:59+00:00", False),
        ("2026-03-28T22:00+00:00", False),
    ],
)
def test_hours_are_of_the_sites_own_clock(*, moment: str, is_allowed: bool) -> None:
    text = 'time_zone = "Europe/Zurich"\n' + POLICY.replace(
        "max_rounds = 50", 'max_rounds = 50\nhours = "07:00-23:00"'
    )
    decision = judge(text, now=dt.datetime.fromisoformat(moment))
    assert decision.is_allowed is is_allowed
    assert is_allowed or decision.rule == "policy.toml:10 datasets.heart.hours"


@pytest.mark.parametrize(
    ("hours", "clock", "is_within"),
    [
        ("22:00-06:00", "22:00", True),
        ("22:00-06:00", "05:59", True),
        ("22:00-06:00", "06:00", False),
        ("22:00-06:00", "21:59", False),
        ("08:00-24:00", "23:59", True),
        ("00:00-24:00", "00:00", True),
    ],
)
def test_hours_may_go_over_midnight(*, hours: str, clock: str, is_within: bool) -> None:
    text = 'time_zone = "UTC"\n' + POLICY.replace(
        "max_rounds = 50", f'max_rounds = 50\nhours = "{hours}"'
    )
    now = dt.datetime.fromisoformat(f"2026-11-25T{clock}+00:00")
    assert judge(text, now=now).is_allowed is is_within


def test_a_moment_without_a_time_zone_is_none() -> None:
    with pytest.raises(ValueError, match="time zone"):
        judge(POLICY, now=NOON.replace(tzinfo=None))


# ---------------------------------------------------------------------- rules


def test_the_first_rule_whose_terms_all_hold_decides() -> None:
    allowed = judge(WITH_RULES, epsilon=1.0)
    assert (allowed.action, allowed.rule) == ("allow", "policy.toml:14 datasets.heart.rules[0]")
    asked = judge(WITH_RULES, epsilon=1.01)
    assert (asked.action, asked.rule) == ("ask", "policy.toml:22 datasets.heart.rules[2]")
    assert asked.is_allowed
    assert asked.refusal is None
    assert (asked.approvals_needed, asked.expires_after_hours) == (2, 24.0)
    assert asked.approvers == ("alice", "bob", "carol")


def test_a_rule_denies_and_what_no_rule_matches_is_denied() -> None:
    saturday = NOON + dt.timedelta(days=3)
    denied = judge(WITH_RULES, submitter="intern", now=saturday)
    assert denied.refusal is Refusal.FORBIDDEN_BY_POLICY
    assert denied.rule == "policy.toml:18 datasets.heart.rules[1].action"
    assert judge(WITH_RULES, submitter="intern").action == "ask"
    unmatched = judge(WITH_RULES, epsilon=3.6)
    assert unmatched.refusal is Refusal.FORBIDDEN_BY_POLICY
    assert unmatched.rule == "policy.toml:14 datasets.heart.rules: none matches, so denied"


def test_no_rule_passes_a_cap() -> None:
    text = WITH_RULES.replace("max_epsilon = 3.5", "max_epsilon = 9.0")
    decision = judge(text, epsilon=4.1)
    assert decision.refusal is Refusal.FORBIDDEN_BY_POLICY
    assert decision.rule == "policy.toml:7 datasets.heart.max_epsilon"
    (remark,) = remarks(read(text).file)
    assert str(remark).startswith("datasets.heart.rules[2].max_epsilon: looser than")


def test_a_lineage_without_a_budget_is_denied() -> None:
    copied = DECLARED.model_copy(
        update={"dataset": DECLARED.dataset.model_copy(update={"lineage": "patients"})}
    )
    decision = judge(POLICY, schema=copied)
    assert decision.refusal is Refusal.FORBIDDEN_BY_POLICY
    assert decision.rule == "policy.toml: no [budgets.patients], so denied"
    assert judge(POLICY.replace("budgets.heart", "budgets.patients"), schema=copied).is_allowed


def test_a_job_that_names_no_columns_uses_all_of_them() -> None:
    text = POLICY.replace("max_rounds = 50", 'max_rounds = 50\ncolumns = ["age", "chol"]')
    decision = judge(text)
    assert decision.rule == "policy.toml:9 datasets.heart.columns"
    assert decision.asked == "ward"
    narrow = variant('dataset = "heart"', 'dataset = "heart"\ncolumns = ["age"]')
    assert judge(text, job=narrow).is_allowed


def test_a_decision_does_not_contradict_itself() -> None:
    with pytest.raises(ValueError, match="refusal"):
        Decision("allow", Refusal.NO_POLICY, "")
    with pytest.raises(ValueError, match="refusal"):
        Decision("deny", None, "")
    with pytest.raises(ValueError, match="approvals"):
        Decision("ask", None, "")


def test_models_hold_a_job_without_one_to_nothing_and_kinds_do() -> None:
    section = read(EVERY_KEY).file.datasets["heart"]
    asked = replace(base(), kind="count", model=None, training=None, mode=None, generator=None)
    assert [each.key for each in checks(section, asked) if not each.holds] == ["kinds"]
