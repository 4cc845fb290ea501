"""What a data set cannot serve is refused by name, whatever the policy says."""

import pytest
from one_site import (
    CLASSES_JOB,
    CLASSES_SCHEMA,
    ENTITY_JOB,
    ENTITY_SCHEMA,
    JOB,
    MOMENTS_JOB,
    NUMBER_JOB,
    NUMBER_SCHEMA,
    SCHEMA,
    OneSite,
    kinds,
    make_job,
    refusal,
)

from sordino_client.data.declaration import DatasetFile
from sordino_client.mechanisms import Engine
from sordino_client.policy import Decision, denied
from sordino_client.suitability import unsuitable
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import SecureNoise
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile
from sordino_protocols.messages import Inquire, Quote, Refusal
from sordino_protocols.models import MAX_LAYER_WIDTH

TOKENS_SCHEMA = (
    SCHEMA.split("[columns.age]", maxsplit=1)[0]
    + '[columns.word]\ntype = "tokens"\nlength = 6\nvocabulary = 20\n'
    + "[columns.num]"
    + SCHEMA.split("[columns.num]")[1]
)
WORDS_SCHEMA = SCHEMA.replace('"integer"\nmin = 20\nmax = 90', '"category"\nvalues = ["a", "b"]')
WORDS_SCHEMA = WORDS_SCHEMA.replace('"number"\nmin = 0\nmax = 1e6', '"category"\nvalues = ["c"]')
LSTM = 'kind = "lstm"\nhidden = 4\ninput = {kind = "tokens", vocabulary = 20, width = 4}'
IMAGE = "\n[training.augmentation]\nimage = [1, 2, 2]\nviews = 2\n"


def judge(text: str, schema: str) -> Decision | None:
    # The noise does not matter here: any job's will do.
    file = parse_toml(text, JobFile, source="job")
    noise = make_job(MOMENTS_JOB).statistics_noise_multiplier if file.statistics else None
    job = make_job().model_copy(update={"file": file, "statistics_noise_multiplier": noise})
    declared = parse_toml(schema, DatasetFile, source="heart.toml").public
    return unsuitable(job, declared, Engine(SecureNoise(), Performance()))


def refusal_of(text: str, schema: str) -> tuple[Refusal | None, str]:
    """Why a job that must be refused is, and by which rule."""
    refused = judge(text, schema)
    assert refused is not None
    return refused.refusal, refused.rule


@pytest.mark.parametrize(
    ("job", "schema"),
    [
        (JOB, SCHEMA),
        (MOMENTS_JOB, SCHEMA),
        (CLASSES_JOB, CLASSES_SCHEMA),
        (NUMBER_JOB, NUMBER_SCHEMA),
        (ENTITY_JOB, ENTITY_SCHEMA),
        (ENTITY_JOB.replace("records_per_unit = 2", ""), ENTITY_SCHEMA),
    ],
)
def test_a_job_that_fits_is_not_refused(job: str, schema: str) -> None:
    assert judge(job, schema) is None


@pytest.mark.parametrize(
    ("job", "schema", "rule", "asked", "allowed"),
    [
        (JOB, ENTITY_SCHEMA, "dataset.unit", "record", "entity"),
        (ENTITY_JOB, SCHEMA, "dataset.unit", "entity", "record"),
        (
            ENTITY_JOB.replace("records_per_unit = 2", "records_per_unit = 3"),
            ENTITY_SCHEMA,
            "dataset.max_records_per_unit",
            "3",
            "<= 2",
        ),
    ],
)
def test_the_privacy_unit_is_the_data_sets(
    job: str, schema: str, rule: str, asked: str, allowed: str
) -> None:
    refused = denied(Refusal.FORBIDDEN_BY_POLICY, f"the schema: {rule}", asked, allowed)
    assert judge(job, schema) == refused


@pytest.mark.parametrize(
    ("job", "schema"),
    [
        (JOB, CLASSES_SCHEMA),
        (JOB, NUMBER_SCHEMA),
        (CLASSES_JOB, SCHEMA),
        (CLASSES_JOB, NUMBER_SCHEMA),
        (CLASSES_JOB.replace("outputs = 5", "outputs = 4"), CLASSES_SCHEMA),
        (CLASSES_JOB.replace("outputs = 5", "outputs = 6"), CLASSES_SCHEMA),
        (NUMBER_JOB, SCHEMA),
        (NUMBER_JOB, CLASSES_SCHEMA),
    ],
)
def test_the_loss_must_be_that_of_the_task(job: str, schema: str) -> None:
    assert refusal_of(job, schema) == (Refusal.WRONG_TASK, "the schema: roles.task")


@pytest.mark.parametrize(
    ("job", "schema", "rule"),
    [
        (MOMENTS_JOB, TOKENS_SCHEMA, "the job: statistics"),
        (MOMENTS_JOB, WORDS_SCHEMA, "the job: statistics"),
        (JOB + IMAGE, SCHEMA, "the job: training.augmentation.image"),
        (JOB, TOKENS_SCHEMA, "the schema: columns"),
        (JOB.replace('kind = "logistic"', LSTM), SCHEMA, "the schema: columns"),
    ],
)
def test_features_must_be_what_the_job_needs(job: str, schema: str, rule: str) -> None:
    assert refusal_of(job, schema) == (Refusal.WRONG_TASK, rule)


def test_a_model_of_tokens_fits_tokens() -> None:
    assert judge(JOB.replace('kind = "logistic"', LSTM), TOKENS_SCHEMA) is None


MISFIT = JOB.replace(
    'kind = "logistic"', 'kind = "layers"\nlayers = [{kind = "reshape", shape = [2, 2]}]'
)
LARGE = JOB.replace(
    'kind = "logistic"',
    f'kind = "mlp"\nhidden = [{MAX_LAYER_WIDTH}, {MAX_LAYER_WIDTH}]\nactivation = "relu"',
)


def assert_refused_at_admission(site: OneSite, text: str, why: Refusal, *, rule: str) -> None:
    """A price says so beforehand, and nothing is held for a job that is refused."""
    job = make_job(text)
    quote = site.ask(Inquire("price-1", site.admit(job=job).job))
    assert isinstance(quote, Quote)
    assert (quote.refusal, quote.rule) == (why, rule)
    assert refusal(site.ask(site.admit(job=job))) is why
    assert kinds(site) == []


@pytest.mark.parametrize("text", [MISFIT, LARGE], ids=["shapes", "parameters"])
def test_a_model_that_cannot_be_trained_is_refused_at_admission(site: OneSite, text: str) -> None:
    site.policy = site.policy.replace('"mlp"', '"mlp", "layers"') if site.policy else None
    site.open()
    assert_refused_at_admission(site, text, Refusal.UNTRAINABLE, rule="the job: model")


def test_a_job_of_another_task_is_refused_at_admission(site: OneSite) -> None:
    rule = "the schema: roles.task"
    assert_refused_at_admission(site, NUMBER_JOB, Refusal.WRONG_TASK, rule=rule)


def test_what_the_policy_forbids_is_said_first(site: OneSite) -> None:
    # Whoever may not submit learns nothing of the schema.
    site.policy = site.policy.replace('["scientist"]', "[]") if site.policy else None
    site.open()
    assert refusal(site.ask(site.admit(job=make_job(NUMBER_JOB)))) is Refusal.FORBIDDEN_BY_POLICY


def test_an_engine_that_cannot_do_a_units_size_says_so_at_admission() -> None:
    # 1,000 rows of 6 tokens are 6,000 places of one unit: more than its norm's bound holds for.
    tokens = TOKENS_SCHEMA.replace(
        "order_of_magnitude = 100",
        'order_of_magnitude = 100\nunit = "patient"\nmax_records_per_unit = 1000',
    )
    job = ENTITY_JOB.replace("records_per_unit = 2", "records_per_unit = 1000")
    many = job.replace('kind = "logistic"', LSTM)
    assert refusal_of(many, tokens) == (Refusal.UNTRAINABLE, "the job: model")
    few = many.replace("records_per_unit = 1000", "records_per_unit = 3")
    assert judge(few, tokens) is None


NADE = JOB.replace(
    'kind = "logistic"', 'kind = "nade"\nhidden = 4\ncells = [16, 16, 5, 3]'
).replace("[training]", '[training]\nloss = "likelihood"')


@pytest.mark.parametrize("cells", ["[16, 16, 5, 3]", "[71, 100, 5, 3]", "[71, 16, 5, 3]"])
def test_a_model_of_cells_may_read_fine_ones_or_coarse_ones(cells: str) -> None:
    assert judge(NADE.replace("[16, 16, 5, 3]", cells), SCHEMA) is None


@pytest.mark.parametrize("cells", ["[16, 16, 5]", "[16, 16, 5, 4]", "[72, 100, 5, 3]"])
def test_a_model_of_cells_must_be_of_the_schemas_cells(cells: str) -> None:
    refused = refusal_of(NADE.replace("[16, 16, 5, 3]", cells), SCHEMA)
    assert refused == (Refusal.WRONG_TASK, "the job: model.cells")
