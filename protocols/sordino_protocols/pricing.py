"""What a job costs, and the noise that a wanted epsilon needs.

Split from `job` because the accountants take a second to import and most readers of a job do not
price it.
"""

import math
from dataclasses import dataclass

from pydantic import ValidationError

from sordino_protocols.accounting import epsilon_by_pld, epsilon_by_rdp
from sordino_protocols.calibration import calibrate, gaussian_noise
from sordino_protocols.errors import InputError
from sordino_protocols.job import JOB_VERSION, Job, JobFile
from sordino_protocols.plan import RunPlan
from sordino_protocols.privacy import LARGEST_DISCRETE_STD, Event

# Rounding of floats between machines; far below any epsilon that matters.
TOLERANCE = 1e-9

# Kairouz, Liu & Steinke 2021, thm. 1: 10 exp(-2 pi^2 sigma^2 / 2) for each site is below 1e-15.
SMALLEST_SHARE = 2.0

# The Rényi curve is looser than PLD by far less than this, except where delta is so large that not
# sampling a unit is most of the guarantee. What it calls far too dear is refused without the PLD,
# which takes a minute and a gigabyte for an epsilon of a few hundred.
_RDP_SLACK_FACTOR = 2.0
_RDP_SLACK = 1.0


@dataclass(frozen=True, slots=True)
class Price:
    """What a run costs one privacy unit at one site.

    Attributes:
        epsilon_pld: tight, for this run alone.
        epsilon_rdp: by the Rényi curve: what a lifetime budget counts with.
        delta: of both.
    """

    epsilon_pld: float
    epsilon_rdp: float
    delta: float


def resolve(file: JobFile) -> Job:
    """Find the noise with which a job costs what its file says, and no more.

    Evaluation and statistics get their shares of the squared mu of the Gaussian mechanism that has
    the wanted guarantee (Dong, Roth & Su 2022: mu of composed Gaussians add in squares); training
    gets what PLD says is left. The evaluation's noise is discrete, which costs about as much; what
    it costs more or less, training pays. A job of one release, such as a validation or a synthesis,
    gives everything to it.

    Raises:
        InputError: no noise reaches the guarantee; or a validation does not say which weights, or a
            synthesis not which schema; or the job is a mock and costs nothing.
    """
    match file.job.kind:
        case "train" if file.synthetic is None:
            return _resolve_training(file)
        case "train" | "validate":
            return _resolve_evaluation(file)
        case "synthesize" | "count":
            return _resolve_table(file)
        case "mock":
            return Job(version=JOB_VERSION, file=file)


def _resolve_training(file: JobFile) -> Job:
    whole = gaussian_noise(file.guarantee)
    evaluation = _round_up(whole / math.sqrt(file.evaluation.share))
    if evaluation > LARGEST_DISCRETE_STD:
        raise InputError(
            f"the evaluation would need a noise multiplier of {evaluation:.3g}:"
            " raise evaluation.share or privacy.epsilon"
        )
    statistics = None
    if file.statistics is not None:
        statistics = _round_up(whole / math.sqrt(file.statistics.share))
    training = calibrate(
        lambda noise: _plan(file, noise, evaluation, statistics).event, file.guarantee
    )
    try:
        return Job(
            version=JOB_VERSION,
            file=file,
            training_noise_multiplier=training,
            evaluation_noise_multiplier=evaluation,
            statistics_noise_multiplier=statistics,
        )
    except ValidationError:
        raise InputError(
            "the statistics would need a noise multiplier above 1e6:"
            " raise statistics.share or privacy.epsilon"
        ) from None


def _resolve_evaluation(file: JobFile) -> Job:
    noise = calibrate(lambda noise: file.evaluation_plan(noise).event, file.guarantee)
    try:
        return Job(version=JOB_VERSION, file=file, evaluation_noise_multiplier=noise)
    except ValidationError:
        raise InputError("validation.weights_sha256 is missing: give it, or the weights") from None


def _resolve_table(file: JobFile) -> Job:
    _table_event(file, 1.0)
    try:
        noise = calibrate(lambda noise: _table_event(file, noise), file.guarantee)
    except InputError as error:
        raise InputError(f"privacy.epsilon is too small for so many numbers: {error}") from None
    job = Job(version=JOB_VERSION, file=file, table_noise_multiplier=noise)
    _check_shares(job.plan)
    return job


def _table_event(file: JobFile, noise: float) -> Event:
    plan = file.synthesis_plan(noise) or file.count_plan(noise)
    if plan is None:
        raise InputError("the job has neither [synthesis] nor [counting]")
    return plan.event


def _check_shares(plan: RunPlan) -> None:
    """Refuse a sum whose shares of noise do not add up to what is as good as a discrete Gaussian.

    Raises:
        InputError: a share is too small.
    """
    if plan.synthesis is None or plan.synthesis.mode != "sum":
        return
    least = min(each.noise_std for each in plan.synthesis.released_marginals)
    if least < SMALLEST_SHARE:
        raise InputError(
            f"a site's share of the noise would be {least:.3g}, below {SMALLEST_SHARE}, where sums"
            " of discrete noise are no longer accounted right: lower privacy.epsilon"
        )


def _plan(file: JobFile, training: float, evaluation: float, statistics: float | None) -> RunPlan:
    return RunPlan(
        training=file.training_plan(training),
        evaluation=file.evaluation_plan(evaluation),
        statistics=None if statistics is None else file.statistics_plan(statistics),
    )


def price(job: Job) -> Price:
    """Price what the job really asks for, never what it says it asks for.

    Raises:
        InputError: the plan costs more than the job's own declared epsilon, or nothing can be said
            of what it costs.
    """
    _check_shares(job.plan)
    guarantee = job.file.guarantee
    loose = epsilon_by_rdp(job.plan.event, guarantee.delta)
    if not loose <= _RDP_SLACK_FACTOR * guarantee.epsilon + _RDP_SLACK:
        raise InputError(
            f"the plan costs epsilon {loose:.4g} by its Rényi curve, far more than the declared"
            f" {guarantee.epsilon}"
        )
    tight = epsilon_by_pld(job.plan.event, guarantee.delta)
    if tight > guarantee.epsilon * (1 + TOLERANCE):
        raise InputError(
            f"the plan costs epsilon {tight:.4f}, more than the declared {guarantee.epsilon}"
        )
    return Price(tight, loose, guarantee.delta)


def _round_up(noise_multiplier: float) -> float:
    return math.ceil(noise_multiplier * 1e4) / 1e4
