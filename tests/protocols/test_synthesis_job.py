"""Jobs that synthesize, count, mock or train on synthetic records: what they say and cost."""

import json

import pytest
from small_job import read_file

from sordino_protocols.accounting import epsilon_by_rdp
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.fitting import noise_that_fits, rounds_that_fit
from sordino_protocols.job import JobFile, read_job
from sordino_protocols.plan import CountQuery, ItemsWanted
from sordino_protocols.pricing import SMALLEST_SHARE, price, resolve
from sordino_protocols.privacy import DiscreteGaussian, SelfComposed

HEAD = """
[job]
name = "claims"
kind = "{kind}"
dataset = "claims"
"""
PRIVACY = """
[privacy]
unit = "record"
epsilon = {epsilon}
delta = 1e-5
"""
SHAPE = """
schema_sha256 = "{digest}"
shape.label = 2
shape.columns = [
  {{ groups = [5, 5, 5, 5, 1] }}, {{ items = 6, at_most = 3 }}, {{ groups = [1, 1] }},
]
""".format(digest="ab" * 32)
SYNTHESIZE = HEAD.format(kind="synthesize") + PRIVACY.format(epsilon=1.0) + "[synthesis]" + SHAPE
SUM = (
    SYNTHESIZE
    + """mode = "sum"
silent = 1
[cohort]
sites = ["a", "b", "c", "d"]
quorum = 3
"""
)
COUNT = (
    HEAD.format(kind="count")
    + PRIVACY.format(epsilon=0.5)
    + """
[[counting.queries]]
name = "old"
where = { age = ">= 60", towers = { any = ["x", "y"], none = ["z"] } }
[[counting.queries]]
name = "women"
where = { sex = "female" }
"""
)
MODEL = """
[model]
kind = "logistic"
"""
SYNTHETIC = (
    HEAD.format(kind="train")
    + PRIVACY.format(epsilon=0.5)
    + MODEL
    + """
[synthetic]
run = "run-7"
"""
)
MOCK = HEAD.format(kind="mock")


def read(text: str) -> JobFile:
    return parse_toml(text, JobFile, source="job.toml")


@pytest.mark.parametrize("text", [SYNTHESIZE, SUM, COUNT, SYNTHETIC, MOCK])
def test_a_job_arrives_as_it_was_resolved(text: str) -> None:
    job = resolve(read(text))
    again = read_job(job.canonical())
    assert again == job
    assert again.canonical() == job.canonical()
    assert job.purpose == job.file.job.kind


@pytest.mark.parametrize("text", [SYNTHESIZE, SUM, COUNT, SYNTHETIC])
def test_the_noise_costs_what_the_file_says_and_no_more(text: str) -> None:
    job = resolve(read(text))
    epsilon = job.file.guarantee.epsilon
    assert epsilon * (1 - 2e-3) <= price(job).epsilon_pld <= epsilon
    cheaper = job.model_copy(update={"file": with_epsilon(job.file, epsilon / 2)})
    with pytest.raises(InputError, match="more than the declared"):
        price(cheaper)


def with_epsilon(file: JobFile, epsilon: float) -> JobFile:
    privacy = file.require_privacy().model_copy(update={"epsilon": epsilon})
    return file.model_copy(update={"privacy": privacy})


def test_a_mock_costs_nothing_and_asks_nobody_for_a_price() -> None:
    job = resolve(read(MOCK))
    with pytest.raises(InputError, match="costs nothing"):
        price(job)
    with pytest.raises(InputError, match="it has no price"):
        _ = job.plan.event


def test_in_a_sum_a_site_pays_for_its_own_noise_and_the_sum_has_that_of_three() -> None:
    plan = resolve(read(SUM)).plan.require_synthesis()
    assert plan.sites == ("a", "b", "c", "d")
    for whole, share in zip(plan.marginals, plan.released_marginals, strict=True):
        assert 3 * share.noise_std**2 >= whole.noise_std**2
        assert share.noise_std == pytest.approx(whole.noise_std / 3**0.5, rel=1e-3)
    own, together = (epsilon_by_rdp(each, 1e-5) for each in (plan.event, plan.whole_event))
    assert together < 0.6 * own


def test_a_share_of_noise_too_small_to_be_added_up_is_refused() -> None:
    with pytest.raises(InputError, match=f"below {SMALLEST_SHARE}"):
        resolve(read(SUM.replace("epsilon = 1.0", "epsilon = 20.0")))


@pytest.mark.parametrize("text", [SYNTHESIZE, SUM, COUNT])
def test_an_epsilon_that_no_noise_reaches_is_named(text: str) -> None:
    with pytest.raises(InputError, match=r"privacy\.epsilon is too small"):
        resolve(with_epsilon(read(text), 1e-3))


def test_counts_are_one_discrete_gaussian_a_query() -> None:
    plan = resolve(read(COUNT)).plan.count
    assert plan is not None
    assert plan.event == SelfComposed(DiscreteGaussian(plan.noise_multiplier), 2)
    assert plan.queries == (
        CountQuery("old", (("age", ">= 60"), ("towers", ItemsWanted(any=("x", "y"), none=("z",))))),
        CountQuery("women", (("sex", "female"),)),
    )


def test_training_on_synthetic_records_gives_everything_to_the_evaluation() -> None:
    job = resolve(read(SYNTHETIC))
    assert job.plan.training is None
    assert job.plan.rounds == 0
    assert job.file.loss == "binary"
    assert job.plan.require_evaluation().event == DiscreteGaussian(
        job.evaluation_noise_multiplier or 0
    )


def test_more_noise_is_found_for_what_is_left_of_a_budget() -> None:
    for text in (SYNTHESIZE, SUM, COUNT):
        job = resolve(read(text))
        least = job.table_noise_multiplier
        assert least is not None
        assert rounds_that_fit(job, lambda _: True) == 0
        assert noise_that_fits(job, lambda _: True) == least
        found = noise_that_fits(job, lambda event: epsilon_by_rdp(event, 1e-5) <= 0.1)
        assert found is not None
        assert found > 4 * least
    assert noise_that_fits(resolve(read(COUNT)), lambda _: False) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SYNTHESIZE + MODEL, "job.kind = 'synthesize' has no use for [model]: leave it out"),
        (HEAD.format(kind="synthesize") + "[synthesis]", "job.kind = 'synthesize' needs [privacy]"),
        (
            HEAD.format(kind="count") + PRIVACY.format(epsilon=1),
            "job.kind = 'count' needs [counting]",
        ),
        (MOCK + PRIVACY.format(epsilon=1), "job.kind = 'mock' has no use for [privacy]"),
        (
            HEAD.format(kind="train") + PRIVACY.format(epsilon=1) + MODEL,
            "job.kind = 'train' needs [training], or [synthetic]",
        ),
        (
            SYNTHETIC + "[training]\nrounds = 1\nsampling_rate = 1.0\nclipping_norm = 1.0\n",
            "[synthetic] trains at the server, without rounds: leave [training] out",
        ),
        (
            SYNTHESIZE.replace('dataset = "claims"', 'dataset = "claims"\ncolumns = ["age"]'),
            "takes all columns: leave job.columns out",
        ),
        (SYNTHESIZE + 'generator.kind = "mst"\n', "generator 'mst' needs mode = 'table'"),
        (SYNTHESIZE + "silent = 1\n", "silent is for mode = 'sum'"),
        (SYNTHESIZE + "rows = 10\n", "rows is for mode = 'table'"),
        (SUM.replace("silent = 1", "silent = 3"), "a sum of one site hides nothing"),
        (SUM.replace("quorum = 3", "quorum = 2"), "cohort.quorum must be at least"),
        (
            SYNTHESIZE.replace("label = 2", "label = 1"),
            "label must be the index of a single column",
        ),
        (COUNT.replace('"women"', '"old"'), "queries must not repeat a name"),
        (
            COUNT.replace('{ any = ["x", "y"], none = ["z"] }', "{}"),
            "a condition on a set names items",
        ),
    ],
)
def test_a_job_that_contradicts_itself_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    assert expected in str(caught.value)


def test_a_synthesis_without_its_schema_says_how_to_come_by_it() -> None:
    file = read(SYNTHESIZE.replace(SHAPE, "\n"))
    with pytest.raises(InputError, match=r"synthesis\.shape and synthesis\.schema_sha256"):
        resolve(file)


def test_jobs_of_a_model_are_written_as_before_there_was_synthesis() -> None:
    job = resolve(read_file())
    raw = json.loads(job.canonical())
    assert "table_noise_multiplier" not in raw
    assert not {"synthetic", "synthesis", "counting"} & set(raw["file"])
