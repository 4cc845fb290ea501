"""What holds for every policy and every job: a job can only tighten, and a diff keeps its word."""

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import tomli_w
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from one_site import NAME, SCHEMA, make_job

from sordino_client.data.declaration import DatasetFile
from sordino_client.policy import Decision, Policy, decide, parse_policy
from sordino_client.policy_differences import differences
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job, JobFile
from sordino_protocols.pricing import Price
from sordino_protocols.schema import Schema

DECLARED: Schema = parse_toml(SCHEMA, DatasetFile, source="heart.toml").public
RANKS = MappingProxyType({"deny": 0, "ask": 1, "allow": 2})
Table = dict[str, object]

submitters = st.sampled_from(["ada", "bob", "eve"])
some_submitters = st.lists(submitters, min_size=1, max_size=3, unique=True)
some_models = st.lists(st.sampled_from(["logistic", "mlp"]), min_size=1, unique=True)
some_units = st.lists(st.sampled_from(["record", "entity"]), min_size=1, unique=True)
some_columns = st.lists(st.sampled_from(["age", "chol", "ward"]), min_size=1, unique=True)
some_days = st.lists(st.sampled_from(["mon", "wed", "sat"]), min_size=1, unique=True)
epsilons = st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0])
deltas = st.sampled_from([1e-7, 1e-6, 1e-5, 1e-4])
counts = st.sampled_from([1, 2, 5, 10, 100])
batches = st.sampled_from([0.0, 5.0, 20.0, 100.0])
norms = st.sampled_from([0.1, 0.5, 1.0, 10.0])
hours = st.sampled_from(["00:00-12:00", "08:00-18:00", "20:00-06:00", "00:00-24:00"])
dates = st.sampled_from([dt.date(2026, 11, 1), dt.date(2026, 11, 25), dt.date(2026, 12, 24)])

WHO_AND_WHEN = {
    "submitters": some_submitters,
    "models": some_models,
    "units": some_units,
    "hours": hours,
    "days": some_days,
    "from": dates,
    "until": dates,
}
LIMITS = {
    "columns": some_columns,
    "max_epsilon": epsilons,
    "max_delta": deltas,
    "max_rounds": counts,
    "max_steps": counts,
    "min_units": st.sampled_from([10, 100, 1000]),
    "min_expected_batch": batches,
    "min_clipping_norm": norms,
    "max_clipping_norm": norms,
    "max_lanes": st.sampled_from([0, 8, 100]),
}


def table(**keys: st.SearchStrategy[object]) -> st.SearchStrategy[Table]:
    return st.fixed_dictionaries({}, optional=keys)


broad_terms = table(**WHO_AND_WHEN, **LIMITS)
rules = st.one_of(
    st.builds(lambda terms: {"action": "allow"} | terms, broad_terms),
    st.builds(
        lambda terms, approvals: {"action": "ask", "approvals": approvals} | terms,
        broad_terms,
        st.integers(1, 3),
    ),
    st.builds(lambda terms: {"action": "deny"} | terms, table(**WHO_AND_WHEN)),
)
caps = st.builds(
    lambda required, optional: optional | required,
    st.fixed_dictionaries(
        {
            "submitters": some_submitters,
            "kinds": st.just(["train", "validate"]),
            "models": some_models,
            "max_epsilon": epsilons,
            "max_delta": deltas,
            "max_rounds": counts,
            "min_expected_batch": batches,
        }
    ),
    broad_terms,
)
rule_lists = st.lists(rules, max_size=3)


@dataclass(frozen=True)
class Wish:
    """What a job asks for; less of any of it but the norm is less demanding."""

    submitter: str
    model: str
    columns: tuple[str, ...]
    epsilon: float
    delta: float
    rounds: int
    local_steps: int
    rate: float
    norm: float
    lanes: int
    now: dt.datetime

    def job(self) -> Job:
        """The job, with the noise of some other one: its price is `epsilon`, whatever it is."""
        raw = make_job().file.model_dump(mode="json", exclude_unset=True)
        models = {
            "logistic": {"kind": "logistic"},
            "mlp": {"kind": "mlp", "hidden": [3], "activation": "tanh"},
        }
        raw["job"]["columns"] = self.columns
        raw["model"] = models[self.model]
        raw["training"] |= {
            "rounds": self.rounds,
            "local_steps": self.local_steps,
            "sampling_rate": self.rate,
            "clipping_norm": self.norm,
        }
        raw["audit"] = {"lanes": self.lanes}
        file = JobFile.model_validate_json(json.dumps(raw), strict=True)
        return make_job().model_copy(update={"file": file})


wishes = st.builds(
    Wish,
    submitter=submitters,
    model=st.sampled_from(["logistic", "mlp"]),
    columns=st.lists(st.sampled_from(["age", "chol", "ward"]), unique=True).map(tuple),
    epsilon=st.floats(0.1, 10),
    delta=st.floats(1e-8, 1e-3),
    rounds=st.integers(1, 120),
    local_steps=st.integers(1, 5),
    rate=st.floats(0.01, 1),
    norm=st.sampled_from([0.05, 0.3, 0.5, 1.0, 5.0, 20.0]),
    lanes=st.integers(0, 120),
    now=st.datetimes(
        dt.datetime(2026, 10, 20),  # noqa: DTZ001  # the strategy's zone is the next argument
        dt.datetime(2026, 12, 31),  # noqa: DTZ001
        timezones=st.just(dt.UTC),
    ),
)

LESS: dict[str, Callable[[Wish], Wish]] = {
    "epsilon": lambda wish: replace(wish, epsilon=wish.epsilon / 3),
    "delta": lambda wish: replace(wish, delta=wish.delta / 100),
    "rounds": lambda wish: replace(wish, rounds=(wish.rounds + 1) // 2),
    "local_steps": lambda wish: replace(wish, local_steps=1),
    "batch": lambda wish: replace(wish, rate=1.0),
    "lanes": lambda wish: replace(wish, lanes=wish.lanes // 2),
    "columns": lambda wish: replace(wish, columns=wish.columns[:1] or ("age",)),
}


def policy_of(section: Table, wanted: list[Table]) -> Policy | None:
    """The policy, if it does not contradict itself."""
    try:
        return parse_policy(dump(section, wanted), Path("policy.toml"))
    except InputError:
        return None


def judge(policy: Policy, wish: Wish) -> Decision:
    return decide(
        policy,
        wish.job(),
        Price(wish.epsilon, wish.epsilon, wish.delta),
        submitter=wish.submitter,
        site=NAME,
        schema=DECLARED,
        now=wish.now,
    )


@settings(deadline=None)  # the first example reads schema and job
@given(section=caps, wanted=rule_lists, wish=wishes, field=st.sampled_from(sorted(LESS)))
def test_asking_for_less_never_turns_a_yes_into_a_no(
    section: Table, wanted: list[Table], wish: Wish, field: str
) -> None:
    policy = policy_of(section, wanted)
    assume(policy is not None)
    assert policy is not None
    wish = within(section, wish)
    if judge(policy, wish).is_allowed:
        assert judge(policy, LESS[field](wish)).is_allowed


@settings(deadline=None)  # the first example reads schema and job
@given(section=caps, wanted=rule_lists, wish=wishes)
def test_whatever_a_job_says_what_passes_is_within_every_cap(
    section: Table, wanted: list[Table], wish: Wish
) -> None:
    policy = policy_of(section, wanted)
    assume(policy is not None)
    assert policy is not None
    if not judge(policy, wish).is_allowed:
        return
    cap = policy.file.datasets["heart"]
    assert wish.submitter in cap.submitters
    assert wish.model in cap.models
    assert "record" in cap.units
    assert cap.columns is None or set(wish.columns or ("age", "chol", "ward")) <= set(cap.columns)
    rounding = 1 + 1e-8
    assert wish.epsilon <= cap.max_epsilon * rounding
    assert wish.delta <= cap.max_delta * rounding
    assert wish.rounds <= cap.max_rounds
    assert cap.max_steps is None or wish.rounds * wish.local_steps <= cap.max_steps
    assert cap.min_units is None or cap.min_units <= 100
    assert wish.rate * 100 * rounding >= cap.min_expected_batch
    assert (cap.min_clipping_norm or 0) <= wish.norm <= cap.max_clipping_norm
    assert wish.lanes <= cap.max_lanes
    local = wish.now.astimezone(policy.file.clock)
    assert cap.from_ is None or cap.from_ <= local.date()
    assert cap.until is None or local.date() <= cap.until


@settings(deadline=None)  # the first example reads schema and job
@given(section=caps, wanted=rule_lists, wish=wishes)
def test_every_decision_names_the_line_of_what_decided(
    section: Table, wanted: list[Table], wish: Wish
) -> None:
    policy = policy_of(section, wanted)
    assume(policy is not None)
    assert policy is not None
    decision = judge(policy, wish)
    place, key = decision.rule.split(" ", 1)
    assert place.startswith("policy.toml:")
    assert key.startswith("datasets.heart")
    assert decision.is_allowed is (decision.refusal is None)


def within(section: Table, wish: Wish) -> Wish:
    """The wish, most of what the caps refuse taken back, so that many are allowed."""
    names = section["submitters"], section["models"]
    assert isinstance(names[0], list)
    assert isinstance(names[1], list)
    return replace(
        wish,
        submitter=names[0][0],
        model=names[1][0],
        epsilon=min(wish.epsilon, 0.5),
        delta=min(wish.delta, 1e-7),
        rate=1.0,
    )


@st.composite
def edited(draw: st.DrawFn, section: Table, wanted: list[Table]) -> tuple[Table, list[Table]]:
    """A policy after one edit of a cap, a term, or a rule."""
    section, wanted = dict(section), [dict(rule) for rule in wanted]
    kind = draw(st.sampled_from(["cap", "term", "action", "remove", "add", "swap"]))
    if kind == "cap" or not wanted:
        section |= draw(broad_terms)
        return section, wanted
    index = draw(st.integers(0, len(wanted) - 1))
    if kind == "term":
        key = draw(st.sampled_from(sorted(WHO_AND_WHEN | LIMITS)))
        if draw(st.booleans()):
            wanted[index][key] = draw((WHO_AND_WHEN | LIMITS)[key])
        else:
            wanted[index].pop(key, None)
    elif kind == "action":
        wanted[index]["action"] = draw(st.sampled_from(["allow", "ask", "deny"]))
    elif kind == "remove":
        del wanted[index]
    elif kind == "add":
        wanted.insert(index, draw(rules))
    else:
        wanted.reverse()
    return section, wanted


@settings(deadline=None)
@given(data=st.data(), section=caps, wanted=rule_lists, wish=wishes)
def test_what_a_diff_calls_looser_or_stricter_is(
    data: st.DataObject, section: Table, wanted: list[Table], wish: Wish
) -> None:
    changed = data.draw(edited(section, wanted))
    before, after = policy_of(section, wanted), policy_of(*changed)
    assume(before is not None and after is not None)
    assert before is not None
    assert after is not None
    found = differences(before, after)
    assert bool(found) == (before.file != after.file)
    directions = {each.direction for each in found}
    for each in (wish, within(section, wish)):
        old, new = (RANKS[judge(policy, each).action] for policy in (before, after))
        if directions <= {"looser"}:
            assert new >= old
        if directions <= {"stricter"}:
            assert new <= old
    # The same, read backwards.
    back = {each.direction for each in differences(after, before)}
    mirrored = {"looser": "stricter", "stricter": "looser", "changed": "changed"}
    assert back == {mirrored[direction] for direction in directions}


def test_two_rules_that_changed_places_are_the_same_change_backwards() -> None:
    section: Table = {
        "submitters": ["ada"],
        "kinds": ["train"],
        "models": ["logistic"],
        "max_epsilon": 0.5,
        "max_delta": 1e-7,
        "max_rounds": 1,
        "min_expected_batch": 0.0,
    }
    allow: Table = {"action": "allow", "from": dt.date(2026, 11, 1)}
    ask: Table = {"action": "ask", "approvals": 1, "hours": "00:00-12:00"}
    one, other = policy_of(section, [allow, ask]), policy_of(section, [ask, allow])
    assert one is not None
    assert other is not None
    mirrored = {"looser": "stricter", "stricter": "looser", "changed": "changed"}
    found = [mirrored[each.direction] for each in differences(one, other)]
    assert sorted(found) == sorted(each.direction for each in differences(other, one))


@settings(deadline=None)  # the first example reads schema and job
@given(section=caps, wanted=rule_lists)
def test_a_policy_does_not_differ_from_itself(section: Table, wanted: list[Table]) -> None:
    policy = policy_of(section, wanted)
    assume(policy is not None)
    assert policy is not None
    assert differences(policy, policy) == ()
    moved = parse_policy("# a remark\n" + dump(section, wanted), Path("other.toml"))
    assert differences(policy, moved) == ()


def dump(section: Table, wanted: list[Table]) -> str:
    return tomli_w.dumps(
        {
            "time_zone": "Europe/Zurich",
            "budgets": {"heart": {"epsilon": 8.0, "delta": 1e-5}},
            "datasets": {"heart": section | ({"rules": wanted} if wanted else {})},
        }
    )
