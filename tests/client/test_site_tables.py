"""A site's tables: paid once, made once, said again; and masks told of few sites, once."""

import dataclasses
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from one_site import (
    DATASET,
    ENTITY_SCHEMA,
    NAME,
    POLICY,
    SCHEMA,
    OneSite,
    find_canary,
    garble,
    kinds,
    make_job,
    refusal,
    round_plan,
    settle,
    sign,
)
from seeded_noise import SeededNoise
from small_job import read_file
from structlog.testing import capture_logs

from sordino_client.data.declaration import DatasetFile
from sordino_client.data.site_dataset import SiteDataset
from sordino_client.data.table_cells import cells_of
from sordino_client.synthesis.mask_keys import MaskKeys
from sordino_client.synthesis.masks import sum_of_masks
from sordino_client.synthesis.measure import exact_counts
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job, JobFile
from sordino_protocols.job_sections import SynthesisSection
from sordino_protocols.messages import (
    Admission,
    Admit,
    Describe,
    Described,
    Inquire,
    Message,
    Quote,
    Receipt,
    Refusal,
    Tabulate,
    Tabulated,
    Unmask,
    Unmasked,
)
from sordino_protocols.pricing import resolve
from sordino_protocols.schema import Schema
from sordino_protocols.signing import Signer
from sordino_protocols.synthesis.domain import domain_of

PEERS = ("basel", NAME, "zurich")
TABLE_POLICY = POLICY.replace('kinds = ["train"]', 'kinds = ["train", "synthesize", "count"]')
LOCAL = 'mode = "local"'
TABLE = 'mode = "table"\nrows = 30\ngenerator = { kind = "mixture", components = 5 }'
SUM = 'mode = "sum"\nsilent = 1'
COHORT = f"[cohort]\nsites = {json.dumps(sorted(PEERS))}\nquorum = 2\n"
COUNT = """
[[counting.queries]]
name = "everybody"
where = { age = ">= 20" }
[[counting.queries]]
name = "nobody"
where = { age = "< 20" }
"""


def schema_of(text: str = SCHEMA) -> Schema:
    return parse_toml(text, DatasetFile, source="heart.toml").public


def head(kind: str, *, unit: str = "record", epsilon: float = 3.0) -> str:
    privacy = f'[privacy]\nunit = "{unit}"\nepsilon = {epsilon}\ndelta = 1e-5\n'
    return f'[job]\nname = "small"\nkind = "{kind}"\ndataset = "{DATASET}"\n{privacy}'


def synthesis_file(section: str, text: str = SCHEMA, *, unit: str = "record") -> JobFile:
    """A synthesis of the data set as it is declared."""
    schema = schema_of(text)
    cohort = COHORT if section == SUM else ""
    file = read_file(f"{head('synthesize', unit=unit)}[synthesis]\n{section}\n{cohort}")
    known = {"schema_sha256": schema.synthesis_digest(), "shape": domain_of(schema).shape}
    written = file.require_synthesis().model_dump(exclude=set(known))
    filled = SynthesisSection.model_validate(written | known)
    return file.model_copy(update={"synthesis": filled})


@cache
def synthesis_job(section: str = LOCAL, text: str = SCHEMA, *, unit: str = "record") -> Job:
    return resolve(synthesis_file(section, text, unit=unit))


@cache
def count_job(queries: str = COUNT) -> Job:
    return resolve(read_file(head("count") + queries))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[OneSite]:
    one = OneSite(tmp_path, policy=TABLE_POLICY)
    one.prepare()
    one.open()
    yield one
    one.close()


def with_masks(site: OneSite) -> dict[str, MaskKeys]:
    """Keys of three sites, of which this is one; it is opened anew with its own."""
    keys = {name: X25519PrivateKey.generate() for name in PEERS}
    public = {name: key.public_key() for name, key in keys.items()}
    everybody = {
        name: MaskKeys(name, key, {each: public[each] for each in PEERS if each != name})
        for name, key in keys.items()
    }
    site.masks = everybody[NAME]
    site.open()
    return everybody


def admitted(site: OneSite, job: Job, *, run_id: str = "run-1") -> Job:
    answer = site.ask(site.admit(run_id, job))
    assert isinstance(answer, Admission), answer
    return job


def tabulate(job: Job, *, run_id: str = "run-1") -> Tabulate:
    return Tabulate(run_id, job.digest())


def unmask(job: Job, missing: str = "zurich") -> Unmask:
    return Unmask("run-1", job.digest(), missing)


def numbers_of(answer: Message) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    assert isinstance(answer, Tabulated | Unmasked), answer
    return answer.numbers


def learnt(site: OneSite) -> SiteDataset:
    return site.datasets[DATASET]


# ---------------------------------------------------------------------- what a table is


def test_noisy_marginals_are_those_of_the_records_that_are_not_held_out(site: OneSite) -> None:
    job = admitted(site, synthesis_job())
    released = numbers_of(site.ask(tabulate(job)))
    plan = job.plan.require_synthesis()
    dataset = learnt(site)
    cells = cells_of(dataset.training, dataset.schema)
    exact = exact_counts(cells, plan.marginals, shape=plan.shape)
    largest = max(each.noise_std for each in plan.marginals)
    assert released.shape == exact.shape
    # 9 sigma: beyond with a probability of 2e-19 a count, of which there are fewer than 1e4.
    assert np.abs(released - exact).max() <= 9 * largest
    assert released.tolist() != exact.tolist()
    assert kinds(site).count("commit") == 1


def test_a_table_of_rows_has_as_many_as_were_asked_for_all_within_their_columns(
    site: OneSite,
) -> None:
    job = admitted(site, synthesis_job(TABLE))
    shape = job.plan.require_synthesis().shape
    rows = numbers_of(site.ask(tabulate(job))).reshape(30, shape.position_count)
    assert rows.min() >= 0
    assert (rows < [column.fine for column in shape.columns if hasattr(column, "fine")]).all()


def test_counts_are_answered_in_the_order_of_the_queries(site: OneSite) -> None:
    job = admitted(site, count_job())
    everybody, nobody = numbers_of(site.ask(tabulate(job))).tolist()
    plan = job.plan.count
    assert plan is not None
    for answer, exact in ((everybody, len(learnt(site).training.labels)), (nobody, 0)):
        assert abs(answer - exact) <= 9 * plan.noise_multiplier


def test_of_an_entity_one_record_is_measured(tmp_path: Path) -> None:
    site = OneSite(tmp_path, policy=TABLE_POLICY, schema=ENTITY_SCHEMA)
    site.prepare()
    site.open()
    job = admitted(site, synthesis_job(LOCAL, ENTITY_SCHEMA, unit="entity"))
    released = numbers_of(site.ask(tabulate(job)))
    training, plan = learnt(site).training, job.plan.require_synthesis()
    assert training.entities is not None
    first = plan.marginals[0]
    # The sum of a marginal's noise: 9 of its standard deviations.
    slack = 9 * first.noise_std * np.sqrt(first.cells)
    assert abs(released[: first.cells].sum() - len(training.entities)) <= slack
    assert len(training.entities) + slack < len(training.labels) * 10
    site.close()


def test_a_masked_table_is_the_others_masks_away_from_a_noisy_one(site: OneSite) -> None:
    keys = with_masks(site)
    job = admitted(site, synthesis_job(SUM))
    plan = job.plan.require_synthesis()
    table = numbers_of(site.ask(tabulate(job))).view(np.uint32)
    for other in PEERS:
        if other != NAME:
            # What the other adds takes away what this one added.
            table = table + sum_of_masks(
                keys[other],
                (NAME,),
                PEERS,
                run_id="run-1",
                job_digest=job.digest(),
                count=len(table),
            )
    marginals, dataset = plan.released_marginals, learnt(site)
    cells = cells_of(dataset.training, dataset.schema)
    exact = exact_counts(cells, marginals, shape=plan.shape)
    largest = max(each.noise_std for each in marginals)
    assert np.abs(table.view(np.int32) - exact).max() <= 9 * largest


# ---------------------------------------------------------------------- once


def test_a_retry_gets_the_same_bytes_and_never_new_noise(site: OneSite) -> None:
    job = admitted(site, synthesis_job())
    request = site.seal(tabulate(job))
    first = site.site.answer(request)
    spent = site.spent
    assert site.site.answer(request) == first
    # After a restart, too, and it costs nothing more.
    site.open()
    assert site.site.answer(request) == first
    assert site.spent == spent > 0


def test_a_crash_after_the_table_was_stored_sends_what_was_stored(
    site: OneSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = admitted(site, synthesis_job())
    request = site.seal(tabulate(job))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(site.ledger, "commit", die)
        with pytest.raises(KeyboardInterrupt):
            site.site.answer(request)
    stored = site.outbox.get("run-1", "tables")
    assert stored is not None
    site.open()
    assert site.site.answer(request) == stored.envelope
    assert kinds(site).count("reserve") == 1


def test_the_table_costs_what_the_plan_says_and_the_rest_returns(site: OneSite) -> None:
    job = admitted(site, synthesis_job())
    assert site.held > 0
    site.ask(tabulate(job))
    receipt = site.ask(settle(job=job))
    assert isinstance(receipt, Receipt)
    assert receipt.epsilon_spent_pld == pytest.approx(receipt.epsilon_planned)
    # Sigmas are rounded up, so a job may cost a little less than it could.
    assert 2.98 < receipt.epsilon_spent_pld <= 3.0
    assert site.held == 0


def test_insecure_noise_makes_no_table(tmp_path: Path) -> None:
    site = OneSite(tmp_path, policy=TABLE_POLICY, noise=SeededNoise(1))
    site.prepare()
    site.open()
    job = admitted(site, synthesis_job())
    assert refusal(site.ask(tabulate(job))) is Refusal.INTERNAL
    assert site.spent == 0
    site.close()


def test_a_run_of_tables_has_no_rounds_and_one_of_rounds_no_table(site: OneSite) -> None:
    job = admitted(site, synthesis_job())
    trained = admitted(site, make_job(), run_id="run-2")
    wrong = dataclasses.replace(round_plan(), run_id="run-1", job_digest=job.digest())
    assert refusal(site.ask(wrong)) is Refusal.OUT_OF_ORDER
    assert refusal(site.ask(tabulate(trained, run_id="run-2"))) is Refusal.OUT_OF_ORDER
    assert refusal(site.ask(tabulate(job, run_id="run-9"))) is Refusal.NOT_ADMITTED
    assert refusal(site.ask(Tabulate("run-1", "0" * 64))) is Refusal.CHANGED_REPLAY


# ---------------------------------------------------------------------- masks


def test_masks_are_told_of_one_set_of_silent_sites_and_again_the_same(site: OneSite) -> None:
    keys = with_masks(site)
    job = admitted(site, synthesis_job(SUM))
    # Not before the own table was paid for.
    assert refusal(site.ask(unmask(job))) is Refusal.OUT_OF_ORDER
    table = numbers_of(site.ask(tabulate(job)))
    request = site.seal(unmask(job))
    told = site.site.answer(request)
    masks = sum_of_masks(
        keys[NAME],
        ("zurich",),
        PEERS,
        run_id="run-1",
        job_digest=job.digest(),
        count=len(table),
    )
    assert numbers_of(site.read(told)).view(np.uint32).tolist() == masks.tolist()
    site.open()
    assert site.site.answer(request) == told
    assert refusal(site.ask(unmask(job, "basel"))) is Refusal.CHANGED_REPLAY
    assert refusal(site.ask(unmask(job, "basel,zurich"))) is Refusal.FORBIDDEN_BY_POLICY
    assert refusal(site.ask(unmask(job, NAME))) is Refusal.FORBIDDEN_BY_POLICY
    assert refusal(site.ask(unmask(job, "eve"))) is Refusal.FORBIDDEN_BY_POLICY


def test_a_run_without_a_sum_tells_no_masks(site: OneSite) -> None:
    with_masks(site)
    job = admitted(site, synthesis_job())
    site.ask(tabulate(job))
    assert refusal(site.ask(unmask(job))) is Refusal.OUT_OF_ORDER


def test_a_restart_with_told_masks_finds_the_ledger_whole(site: OneSite) -> None:
    with_masks(site)
    job = admitted(site, synthesis_job(SUM))
    site.ask(tabulate(job))
    site.ask(unmask(job))
    site.open()
    assert site.ledger.halted is None


def test_a_sum_needs_keys_of_everybody(site: OneSite) -> None:
    job = synthesis_job(SUM)
    assert refusal(site.ask(site.admit("run-1", job))) is Refusal.FORBIDDEN_BY_POLICY
    keys = with_masks(site)[NAME]
    less = {name: key for name, key in keys.peers.items() if name != "zurich"}
    site.masks = dataclasses.replace(keys, peers=less)
    site.open()
    assert refusal(site.ask(site.admit("run-1", job))) is Refusal.FORBIDDEN_BY_POLICY
    assert site.spent == 0


# ---------------------------------------------------------------------- what fits


@pytest.mark.parametrize(
    "change",
    [
        ("max = 90", "max = 91"),
        ('"south"]', '"south", "east"]'),
        ("max = 1e6", "max = 1e6\ncoarse = [1e4, 2e4]"),
        ("min = 20", "min = 20\nnullable = true"),
    ],
)
def test_a_job_for_another_schema_is_refused_before_it_costs(
    site: OneSite, change: tuple[str, str]
) -> None:
    job = synthesis_job(LOCAL, SCHEMA.replace(*change))
    assert refusal(site.ask(site.admit("run-1", job))) is Refusal.WRONG_TASK
    assert site.held == site.spent == 0


def test_a_shape_that_is_not_the_schemas_is_refused_although_the_digest_is(site: OneSite) -> None:
    other = synthesis_job(LOCAL, SCHEMA.replace("max = 90", "max = 91"))
    section = other.file.require_synthesis()
    changed = section.model_copy(update={"schema_sha256": schema_of().synthesis_digest()})
    job = other.model_copy(update={"file": other.file.model_copy(update={"synthesis": changed})})
    assert refusal(site.ask(site.admit("run-1", job))) is Refusal.WRONG_TASK


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (count_job(COUNT.replace('">= 20"', '">= 21.5"').replace("age", "chol")), "wrong_task"),
        (count_job(COUNT.replace("age", "shoe")), "wrong_task"),
        (synthesis_job(LOCAL, unit="entity"), "forbidden_by_policy"),
    ],
)
def test_what_the_data_set_cannot_answer_is_refused_before_it_costs(
    site: OneSite, job: Job, expected: str
) -> None:
    assert refusal(site.ask(site.admit("run-1", job))).value == expected
    assert site.held == site.spent == 0


def test_the_policy_decides_by_kind_mode_generator_and_number_of_queries(site: OneSite) -> None:
    limits = 'models = ["logistic", "mlp"]'
    for lines, job, expected in (
        (POLICY, synthesis_job(), Refusal.FORBIDDEN_BY_POLICY),
        (POLICY, count_job(), Refusal.FORBIDDEN_BY_POLICY),
        (
            TABLE_POLICY.replace(limits, f'{limits}\nmodes = ["sum"]'),
            synthesis_job(),
            Refusal.FORBIDDEN_BY_POLICY,
        ),
        (
            TABLE_POLICY.replace(limits, f'{limits}\ngenerators = ["nade"]'),
            synthesis_job(),
            Refusal.FORBIDDEN_BY_POLICY,
        ),
        (
            TABLE_POLICY.replace(limits, f"{limits}\nmax_queries = 1"),
            count_job(),
            Refusal.FORBIDDEN_BY_POLICY,
        ),
        (TABLE_POLICY.replace(limits, f"{limits}\nmax_queries = 2"), count_job(), None),
        # What is about models says nothing to a synthesis.
        (TABLE_POLICY.replace(limits, "models = []"), synthesis_job(), None),
    ):
        site.policy = lines
        site.open()
        quote = site.ask(Inquire("asked", sign(site, job, run_id="asked", purpose="price")))
        assert isinstance(quote, Quote), quote
        assert quote.refusal is expected, lines


# ---------------------------------------------------------------------- what is public


def test_a_trusted_submitter_is_told_the_schema_before_any_approval(site: OneSite) -> None:
    mock = resolve(read_file(f'[job]\nname = "mock"\nkind = "mock"\ndataset = "{DATASET}"\n'))
    site.policy = None
    site.open()
    signed = sign(site, mock, purpose="mock")
    answer = site.ask(Describe("run-1", signed))
    assert isinstance(answer, Described)
    assert Schema.model_validate_json(answer.schema_json) == schema_of()
    assert kinds(site) == []
    assert not find_canary(answer.schema_json.encode())
    # A mock is described, and never let in.
    site.policy = TABLE_POLICY
    site.open()
    assert refusal(site.ask(Admit("run-1", signed))) is Refusal.UNPRICEABLE


def test_a_stranger_is_told_nothing_and_nobody_of_a_data_set_that_is_not_here(
    site: OneSite,
) -> None:
    signed = sign(site, synthesis_job())
    forged = dataclasses.replace(signed, signature=bytes(64))
    assert refusal(site.ask(Describe("run-1", forged))) is Refusal.UNAUTHENTICATED
    stranger = Signer("stranger", site.submitter.key)
    unknown = dataclasses.replace(signed, submitter=stranger.name)
    assert refusal(site.ask(Describe("run-1", unknown))) is Refusal.UNAUTHENTICATED
    text = f'[job]\nname = "mock"\nkind = "mock"\ndataset = "{DATASET}"\n'
    elsewhere = resolve(read_file(text.replace(DATASET, "liver")))
    assert refusal(site.ask(Describe("run-1", sign(site, elsewhere)))) is Refusal.UNKNOWN_DATASET


@pytest.mark.parametrize("job", [synthesis_job(), synthesis_job(TABLE), count_job()])
def test_nothing_of_a_record_is_in_an_answer_or_a_log(site: OneSite, job: Job) -> None:
    with capture_logs() as logs:
        admitted(site, job)
        answer = site.site.answer(site.seal(tabulate(job)))
        assert isinstance(site.read(answer), Tabulated)
    assert not find_canary(answer + repr(logs).encode())


def test_a_table_that_fails_stays_paid_says_nothing_and_can_be_made_later(site: OneSite) -> None:
    whole = learnt(site).training
    site.open(training=dataclasses.replace(whole, features=garble(whole.features)))
    with capture_logs() as logs:
        job = admitted(site, synthesis_job())
        assert refusal(site.ask(tabulate(job))) is Refusal.INTERNAL
    assert not find_canary(repr(logs).encode())
    paid = site.spent
    assert paid > 0
    site.open()
    assert isinstance(site.ask(tabulate(job)), Tabulated)
    assert site.spent == paid
