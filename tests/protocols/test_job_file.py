"""What a person may write into a job file, and what is said of what they may not."""

import pytest
from small_job import TEXT, read_file

from sordino_protocols.clipping import AdaptiveClipping
from sordino_protocols.errors import ExitCode, InputError
from sordino_protocols.job import Job, read_job
from sordino_protocols.local_training import Augmentation, LocalAdam
from sordino_protocols.plan import StatisticsPlan
from sordino_protocols.privacy import Composed, DiscreteGaussian, Gaussian, PoissonGaussian


def problem(text: str) -> str:
    """What is said of a job that is refused."""
    with pytest.raises(InputError) as caught:
        read_file(text)
    assert caught.value.exit_code is ExitCode.USAGE
    return str(caught.value)


def test_a_file_is_what_it_says() -> None:
    file = read_file()
    assert file.guarantee.epsilon == 4.0
    assert file.cohort.sites == ("cleveland", "va")
    assert file.training_plan(3.0).event == PoissonGaussian(1.0, 3.0, 60)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("epsilon = 4", "epsilom = 4", "privacy.epsilom: unknown key; did you mean 'epsilon'?"),
        ("epsilon = 4\n", "", "privacy.epsilon: missing"),
        ("delta = 1e-5\n", "", "privacy.delta: missing"),
        ("clipping_norm = 0.5\n", "", "training.clipping_norm: missing"),
        ("sampling_rate = 1\n", "", "training.sampling_rate: missing"),
        ("epsilon = 4", 'epsilon = "4"', "privacy.epsilon: should be a valid number"),
        ("epsilon = 4", "epsilon = true", "privacy.epsilon: should be a valid number"),
        ("epsilon = 4", "epsilon = nan", "privacy.epsilon: must be finite"),
        ("epsilon = 4", "epsilon = 0", "privacy.epsilon: should be greater than 0"),
        ("epsilon = 4", "epsilon = 101", "privacy.epsilon: should be less than or equal to 100"),
        ("delta = 1e-5", "delta = 0.1", "privacy.delta: should be less than or equal to 0.01"),
        ("rounds = 30", "rounds = 30.0", "training.rounds: should be a valid integer"),
        ("rounds = 30", "rounds = 0", "training.rounds: should be greater than or equal to 1"),
        ("sampling_rate = 1", "sampling_rate = 1.1", "training.sampling_rate: should be less"),
        ("clipping_norm = 0.5", "clipping_norm = inf", "training.clipping_norm: must be finite"),
        (
            'kind = "train"',
            'kind = "shell"',
            "job.kind: should be 'train', 'validate', 'synthesize'",
        ),
        ('unit = "record"', 'unit = "nobody"', "privacy.unit: should be 'record'"),
        ('kind = "logistic"', 'kind = "pickle"', "model.kind: must be one of 'logistic', 'mlp'"),
        ('dataset = "heart"', 'dataset = "../heart"', "job.dataset: string should match pattern"),
        ('name = "heart-risk"', 'name = "Heart"', "job.name: string should match pattern"),
        ('"va"]', '"cleveland"]', "cohort: sites must not repeat a name"),
        ("quorum = 2", "quorum = 3", "cohort: quorum must be at most the number of sites"),
        ("[cohort]", "[cohorts]", "cohorts: unknown key; did you mean 'cohort'?"),
        ("[job]", "command = 'sh'\n[job]", "command: unknown key"),
        # Keys that look like what a library calls a table inside.
        ("[cohort]", "[JobFile]", "JobFile: unknown key"),
        ("[job]", '"../[]" = 0\n[job]', "../[]: unknown key"),
        ("clipping_norm = 0.5", "clipping_norm = 1e-300", "training.clipping_norm: should be"),
    ],
)
def test_a_wrong_file_is_refused_by_file_key_and_expectation(
    old: str, new: str, expected: str
) -> None:
    assert TEXT.count(old) == 1
    message = problem(TEXT.replace(old, new))
    assert f"job.toml: {expected}" in message


OPTIMIZER = "[optimizer]\nlearning_rate = 2.0"


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ('loss = "cox"', "training.loss: Cox' partial likelihood compares records"),
        ('loss = "hinge"', "training.loss: should be 'binary', 'cross_entropy', 'squared'"),
        ('update = "weights"', "training.update: should be 'sum' or 'delta'"),
        ("records_per_unit = 0", "training.records_per_unit: should be greater than or equal to"),
        ('clipping = {kind = "none"}', "training.clipping.kind: must be one of 'flat', 'per_lay"),
        ('clipping = {kind = "adaptive", share = 1}', "training.clipping.share: should be less"),
        ('local_optimizer = {kind = "lion"}', "training.local_optimizer.kind: must be one of 'sgd"),
        ("local_optimizer = {momentum = 1}", "training.local_optimizer.momentum: should be less"),
        ("local_optimizer = {beta1 = 0.5}", "training.local_optimizer.beta1: unknown key"),
        ("augmentation = {views = 2}", "training.augmentation.image: missing"),
        ("augmentation = {image = [1, 8, 8], views = 0}", "training.augmentation.views: should"),
        ("augmentation = {image = [0, 8, 8], views = 2}", "training.augmentation.image[0]: should"),
    ],
)
def test_what_training_cannot_do_is_refused_by_its_key(training: str, expected: str) -> None:
    message = problem(TEXT.replace("[optimizer]", f"{training}\n[optimizer]"))
    assert f"job.toml: {expected}" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({OPTIMIZER: ""}, "job.kind = 'train' needs [optimizer]"),
        (
            {"[training]": '[training]\nloss = "cross_entropy"'},
            "training.loss = 'cross_entropy' needs model.outputs of at least 2, one a class",
        ),
        (
            {'kind = "logistic"': 'kind = "logistic"\noutputs = 3'},
            "training.loss = 'binary' needs model.outputs = 1",
        ),
        (
            {
                'kind = "logistic"': 'kind = "logistic"\noutputs = 3',
                "[training]": '[training]\nloss = "squared"',
            },
            "training.loss = 'squared' needs model.outputs = 1",
        ),
        (
            {"[training]": "[training]\nrecords_per_unit = 2"},
            "training.records_per_unit above 1 needs privacy.unit = 'entity'",
        ),
        *(
            (
                {
                    "[training]": '[training]\nupdate = "delta"',
                    OPTIMIZER: f'{OPTIMIZER}\nkind = "{kind}"',
                },
                "training.update = 'delta' needs optimizer.kind = 'sgd': a delta is no gradient",
            )
            for kind in ("adam", "sgld")
        ),
        (
            {OPTIMIZER: f'{OPTIMIZER}\nkind = "sgld"'},
            "optimizer.kind = 'sgld' needs training.local_steps = 1: it accounts every step",
        ),
        *(
            (
                {
                    OPTIMIZER: f'{OPTIMIZER}\nkind = "sgld"',
                    "local_steps = 2": f'local_steps = 1\nclipping = {{kind = "{rule}"}}',
                },
                "optimizer.kind = 'sgld' needs training.clipping.kind = 'flat' or 'per_layer'",
            )
            for rule in ("adaptive", "normalized")
        ),
        (
            {
                "[cohort]": '[evaluation]\nshare = 0.6\n[statistics]\nkind = "moments"\n'
                "share = 0.4\n[cohort]"
            },
            "evaluation.share and statistics.share together must be below 1",
        ),
    ],
)
def test_a_job_that_contradicts_itself_is_refused(changes: dict[str, str], expected: str) -> None:
    text = TEXT
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    assert f"job.toml: (whole file): {expected}" in problem(text)


def test_what_a_contradiction_asks_for_is_accepted() -> None:
    # So that each refusal above is about what it says, and not about its parts.
    three = TEXT.replace('kind = "logistic"', 'kind = "logistic"\noutputs = 3')
    assert read_file(three.replace("[training]", '[training]\nloss = "cross_entropy"'))
    entities = TEXT.replace('unit = "record"', 'unit = "entity"')
    assert read_file(entities.replace("[training]", "[training]\nrecords_per_unit = 2"))
    assert read_file(TEXT.replace("[training]", '[training]\nupdate = "delta"'))
    sgld = TEXT.replace(OPTIMIZER, f'{OPTIMIZER}\nkind = "sgld"')
    assert read_file(sgld.replace("local_steps = 2", "local_steps = 1"))
    assert read_file(TEXT + '[statistics]\nkind = "moments"\nshare = 0.89\n')


def test_the_plans_say_what_the_file_says() -> None:
    text = TEXT.replace('unit = "record"', 'unit = "entity"').replace(
        "[optimizer]",
        """records_per_unit = 3
loss = "squared"
update = "delta"
clipping = {kind = "adaptive", quantile = 0.7}
local_optimizer = {kind = "adam"}
augmentation = {image = [1, 8, 8], views = 4, flip = true}
[statistics]
kind = "quantiles"
bins = 64
[optimizer]""",
    )
    job = Job(
        version=2,
        file=read_file(text),
        training_noise_multiplier=3.0,
        evaluation_noise_multiplier=7.0,
        statistics_noise_multiplier=9.0,
    )
    training, statistics = job.plan.require_training(), job.plan.statistics
    assert (training.unit, training.records_per_unit, training.loss) == ("entity", 3, "squared")
    assert training.update == "delta"
    assert training.clipping == AdaptiveClipping(kind="adaptive", quantile=0.7)
    assert training.local_optimizer == LocalAdam(kind="adam")
    assert training.augmentation == Augmentation(image=(1, 8, 8), views=4, flip=True)
    assert (job.plan.require_evaluation().loss, job.plan.require_evaluation().unit) == (
        "squared",
        "entity",
    )
    assert statistics == StatisticsPlan("quantiles", 64, 9.0, "entity")
    assert job.plan.event == Composed(
        (
            Gaussian(9.0, "entity"),
            PoissonGaussian(1.0, 3.0, 60, "entity"),
            DiscreteGaussian(7.0, 1, "entity"),
        )
    )
    assert read_job(job.canonical()) == job


@pytest.mark.parametrize("hidden", ["[5.0]", '["5"]', "[true]", "[]", "5"])
def test_the_widths_of_a_model_are_whole_numbers(hidden: str) -> None:
    model = f'kind = "mlp"\nactivation = "tanh"\nhidden = {hidden}'
    assert "model.hidden" in problem(TEXT.replace('kind = "logistic"', model))
