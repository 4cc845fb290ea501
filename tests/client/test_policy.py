import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_site import JOB, NAME, POLICY, SCHEMA, make_job

from sordino_client.data.declaration import DatasetFile
from sordino_client.policy import Decision, ModelKind, Policy, decide, load_policy
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job
from sordino_protocols.messages import Refusal
from sordino_protocols.models import AnyModelSpec
from sordino_protocols.pricing import Price, price
from sordino_protocols.privacy import Guarantee
from sordino_protocols.schema import Schema

DECLARED: Schema = parse_toml(SCHEMA, DatasetFile, source="heart.toml").public


NOW = dt.datetime(2026, 11, 25, 11, 30, tzinfo=dt.UTC)  # a Wednesday


def read(path: Path, text: str = POLICY) -> Policy:
    file = path / "policy.toml"
    file.write_text(text)
    policy = load_policy(file)
    assert policy is not None
    return policy


def judge(
    policy: Policy | None,
    job: Job | None = None,
    cost: Price | None = None,
    *,
    submitter: str = "scientist",
    site: str = NAME,
    schema: Schema | None = DECLARED,
    now: dt.datetime = NOW,
) -> Decision:
    job = job or make_job()
    return decide(
        policy,
        job,
        cost or price(job),
        submitter=submitter,
        site=site,
        schema=schema,
        now=now,
    )


def test_a_job_within_every_rule_is_allowed(tmp_path: Path) -> None:
    decision = judge(read(tmp_path))
    assert decision.is_allowed
    assert decision.rule == "policy.toml:2 datasets.heart"


def test_without_a_file_everything_is_refused(tmp_path: Path) -> None:
    assert load_policy(tmp_path / "policy.toml") is None
    assert judge(None).refusal is Refusal.NO_POLICY


def test_an_empty_policy_is_a_mistake_and_one_without_tables_refuses_everything(
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match=r"policy\.toml: datasets: missing"):
        read(tmp_path, "")
    policy = read(tmp_path, "[datasets]\n")
    assert judge(policy).refusal is Refusal.FORBIDDEN_BY_POLICY
    assert policy.budget("heart") is None


def test_a_data_set_without_a_table_is_refused(tmp_path: Path) -> None:
    decision = judge(read(tmp_path, POLICY.replace("datasets.heart", "datasets.lung")))
    assert decision.refusal is Refusal.FORBIDDEN_BY_POLICY
    assert decision.rule == "policy.toml: no [datasets.heart], so denied"


def test_a_data_set_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    assert judge(read(tmp_path), schema=None).refusal is Refusal.UNKNOWN_DATASET


MLP = JOB.replace('kind = "logistic"', 'kind = "mlp"\nhidden = [3]\nactivation = "tanh"')


@pytest.mark.parametrize(
    ("old", "new", "rule", "asked"),
    [
        ('submitters = ["scientist"]', 'submitters = ["auditor"]', "submitters", "scientist"),
        ('submitters = ["scientist"]', "submitters = []", "submitters", "scientist"),
        ('kinds = ["train"]', "kinds = []", "kinds", "train"),
        ('models = ["logistic", "mlp"]', 'models = ["mlp"]', "models", "logistic"),
        ("max_epsilon = 4.0", "max_epsilon = 2.9", "max_epsilon", "2.99"),
        ("max_delta = 1e-5", "max_delta = 9e-6", "max_delta", "1e-05"),
        ("max_rounds = 50", "max_rounds = 2", "max_rounds", "3"),
        (
            "min_expected_batch = 20",
            "min_expected_batch = 20\nmax_lanes = 7",
            "max_lanes",
            "8",
        ),
        (
            "min_expected_batch = 20",
            "min_expected_batch = 20\nmax_clipping_norm = 0.4",
            "max_clipping_norm",
            "0.5",
        ),
        (
            "min_expected_batch = 20",
            'min_expected_batch = 20\nunits = ["entity"]',
            "units",
            "record",
        ),
        (
            "min_expected_batch = 20",
            "min_expected_batch = 101",
            "min_expected_batch",
            "100",
        ),
    ],
)
def test_each_rule_refuses_and_is_named(
    tmp_path: Path, old: str, new: str, rule: str, asked: str
) -> None:
    assert POLICY.count(old) == 1
    text = POLICY.replace(old, new)
    decision = judge(read(tmp_path, text))
    assert decision.refusal is Refusal.FORBIDDEN_BY_POLICY
    where, key = decision.rule.split(" ")
    assert key == f"datasets.heart.{rule}"
    line = text.splitlines()[int(where.removeprefix("policy.toml:")) - 1]
    assert line.startswith(f"{rule} =")
    assert decision.asked.startswith(asked)
    assert decision.allowed


def test_what_is_judged_is_what_the_job_costs_not_what_it_declares(tmp_path: Path) -> None:
    # A job that declares epsilon 3 and costs 5 is judged by 5.
    cost = Price(epsilon_pld=5.0, epsilon_rdp=5.5, delta=1e-5)
    assert judge(read(tmp_path), cost=cost).rule.endswith("max_epsilon")


def test_every_kind_of_model_can_be_allowed(tmp_path: Path) -> None:
    kinds = [get_args(get_type_hints(each)["kind"])[0] for each in get_args(AnyModelSpec)]
    listed = ", ".join(f'"{kind}"' for kind in kinds)
    policy = read(tmp_path, POLICY.replace('"logistic", "mlp"', listed))
    assert set(policy.file.datasets["heart"].models) == set(kinds) == set(get_args(ModelKind))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_price_that_is_no_number_is_refused(tmp_path: Path, bad: float) -> None:
    cost = Price(epsilon_pld=bad, epsilon_rdp=bad, delta=1e-5)
    assert not judge(read(tmp_path), cost=cost).is_allowed


def test_a_job_for_other_sites_is_refused(tmp_path: Path) -> None:
    policy = read(tmp_path)
    others = make_job(JOB + '[cohort]\nsites = ["va", "hungarian"]\n')
    decision = judge(policy, others)
    assert decision.refusal is Refusal.FORBIDDEN_BY_POLICY
    assert (decision.rule, decision.asked) == ("the job: cohort.sites", NAME)
    assert judge(policy, others, site="va").is_allowed


@given(
    epsilon=st.floats(0.1, 10),
    delta=st.floats(1e-9, 1e-3),
    rounds=st.integers(1, 100),
    rate=st.floats(0.01, 1),
    lanes=st.integers(0, 20),
    norm=st.floats(0.01, 10),
    mlp=st.booleans(),
)
def test_asking_for_less_never_turns_a_yes_into_a_no(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    epsilon: float,
    delta: float,
    rounds: int,
    rate: float,
    lanes: int,
    norm: float,
    mlp: bool,
) -> None:
    policy = read(tmp_path_factory.getbasetemp())
    text = MLP if mlp else JOB
    for old, new in (
        ("rounds = 3", f"rounds = {rounds}"),
        ("sampling_rate = 1", f"sampling_rate = {rate!r}"),
        ("clipping_norm = 0.5", f"clipping_norm = {norm!r}"),
        ("lanes = 8", f"lanes = {lanes}"),
    ):
        text = text.replace(old, new)
    file = make_job().file.model_validate_json(
        parse_toml(text, type(make_job().file), source="job").model_dump_json(), strict=True
    )
    job = make_job().model_copy(update={"file": file})
    cost = Price(epsilon, epsilon * 1.1, delta)
    allowed = judge(policy, job, cost).is_allowed
    rules = policy.file.datasets["heart"]
    assert allowed == (
        epsilon <= rules.max_epsilon
        and delta <= rules.max_delta
        and rounds <= rules.max_rounds
        and rate * 100 >= rules.min_expected_batch
        and lanes <= rules.max_lanes
        and norm <= rules.max_clipping_norm
    )
    cheaper = replace(cost, epsilon_pld=epsilon / 2, delta=delta / 2)
    assert judge(policy, job, cheaper).is_allowed or not allowed


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max_epsilon", "max_epsilom", "did you mean 'max_epsilon'?"),
        ("max_epsilon = 4.0\n", "", "datasets.heart.max_epsilon: missing"),
        ("max_rounds = 50\n", "", "datasets.heart.max_rounds: missing"),
        ('submitters = ["scientist"]\n', "", "datasets.heart.submitters: missing"),
        ("epsilon = 8.0\n", "", "budgets.heart.epsilon: missing"),
        ("epsilon = 8.0", "epsilon = inf", "policy.toml:11: budgets.heart.epsilon: must be finite"),
        ("epsilon = 8.0", 'epsilon = "8"', "toml:11: budgets.heart.epsilon: should be a valid"),
        ("epsilon = 8.0", "epsilon = 0", "toml:11: budgets.heart.epsilon: should be greater"),
        ("min_expected_batch = 20", "min_expected_batch = nan", "min_expected_batch: must be"),
        ('"mlp"]', '"pickle"]', "datasets.heart.models[1]: should be 'logistic', 'mlp'"),
    ],
)
def test_a_typo_is_an_error_and_never_a_default(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, POLICY.replace(old, new))
    assert str(tmp_path / "policy.toml") in str(caught.value)
    assert expected in str(caught.value)


def test_the_hash_is_of_the_text_and_the_budget_is_what_it_says(tmp_path: Path) -> None:
    policy = read(tmp_path)
    assert policy.sha256 != read(tmp_path, POLICY + "# changed\n").sha256
    assert policy.source == "policy.toml"
    assert policy.budget("heart") == Guarantee(8.0, 1e-5)


def test_a_server_cannot_move_an_adaptive_norm_past_the_policy(tmp_path: Path) -> None:
    adaptive = JOB.replace("[optimizer]", 'clipping = {kind = "adaptive"}\n[optimizer]')
    job = make_job(adaptive)
    reached = job.plan.require_training().largest_clipping_norm
    assert reached == pytest.approx(0.5 * 1e4)
    with_norm = "min_expected_batch = 20\nmax_clipping_norm = {}"
    for norm, is_allowed in ((10.0, False), (reached, True)):
        text = POLICY.replace("min_expected_batch = 20", with_norm.format(norm))
        decision = judge(read(tmp_path, text), job)
        assert decision.is_allowed is is_allowed
        assert is_allowed or decision.rule.endswith("max_clipping_norm")
