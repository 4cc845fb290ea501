"""Which of the sites' replies count: each check raises what `Strategy` logs as a rejection.

A reply counts if it answers this job, and this round, and says what an honest site can say.
"""

import math
from collections.abc import Callable

import numpy as np

from sordino_protocols.errors import PeerError
from sordino_protocols.feature_statistics import release_length
from sordino_protocols.messages import Admission, Evaluation, Receipt, Statistics, Update
from sordino_protocols.plan import RunPlan, StatisticsPlan
from sordino_server.admitted import Admitted
from sordino_server.aggregation import check_update
from sordino_server.answers import ImplausibleError, Rejection
from sordino_server.plausibility import check_admission, check_histogram, check_statistics


def accept_admission(job_digest: str, plan: RunPlan) -> Callable[[str, Admission], None]:
    """Admissions to this job, with declarations that a schema can make."""

    def check(_site: str, reply: Admission) -> None:
        _require_job(reply.job_digest, job_digest)
        _believe(lambda: check_admission(reply, has_statistics=plan.statistics is not None))

    return check


def accept_statistics(
    job_digest: str, plan: StatisticsPlan, admitted: Admitted
) -> Callable[[str, Statistics], None]:
    """Statistics that the site's units and noise can make."""
    features = int(admitted.measured.sum())

    def check(site: str, reply: Statistics) -> None:
        _require_job(reply.job_digest, job_digest)
        _require_shape(reply.vector.shape, release_length(plan, features))
        vector, units = reply.vector.astype(np.float64), admitted.units[site]
        _believe(lambda: check_statistics(vector, plan, features=features, units=units))

    return check


def accept_update(
    job_digest: str,
    plan: RunPlan,
    admitted: Admitted,
    *,
    number: int,
    dimension: int,
    clipping_norm: float,
) -> Callable[[str, Update], None]:
    """Updates of this round that clipping and noise can make.

    Args:
        job_digest: of the run's job.
        plan: of the run.
        admitted: the run's sites.
        number: of the round.
        dimension: length of an update.
        clipping_norm: of the round: under adaptive clipping it is not the plan's.
    """
    training = plan.require_training()

    def check(site: str, reply: Update) -> None:
        _require_job(reply.job_digest, job_digest)
        if reply.round != number:
            raise ImplausibleError(Rejection.MALFORMED, "an answer for another round")
        _require_shape(reply.vector.shape, dimension)
        _believe(
            lambda: check_update(
                reply.vector.astype(np.float64),
                training,
                dimension=dimension,
                expected_batch_size=training.sampling_rate * admitted.units[site],
                clipping_norm=clipping_norm,
            ),
            # Length and finiteness were seen to before.
            otherwise=Rejection.NORM_EXCEEDED,
        )

    return check


def accept_evaluation(
    job_digest: str, plan: RunPlan, admitted: Admitted
) -> Callable[[str, Evaluation], None]:
    """Tables of answers that the site's units and noise can make."""
    evaluation = plan.require_evaluation()

    def check(site: str, reply: Evaluation) -> None:
        _require_job(reply.job_digest, job_digest)
        _require_shape(reply.histogram.shape, math.prod(evaluation.shape))
        histogram, units = reply.histogram.astype(np.float64), admitted.units[site]
        _believe(lambda: check_histogram(histogram, evaluation, units=units))

    return check


def accept_receipt(job_digest: str) -> Callable[[str, Receipt], None]:
    """Receipts for this job."""

    def check(_site: str, reply: Receipt) -> None:
        _require_job(reply.job_digest, job_digest)

    return check


def _require_job(said: str, job_digest: str) -> None:
    if said != job_digest:
        raise ImplausibleError(Rejection.MALFORMED, "an answer for another job")


def _require_shape(shape: tuple[int, ...], length: int) -> None:
    if shape != (length,):
        raise ImplausibleError(Rejection.BAD_SHAPE, "a vector of another length")


def _believe(check: Callable[[], None], *, otherwise: Rejection = Rejection.IMPLAUSIBLE) -> None:
    try:
        check()
    except PeerError as error:
        raise ImplausibleError(otherwise, str(error)) from None
