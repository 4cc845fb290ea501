"""The steps of a run, what order they come in, and what a request for one must look like.

A run goes forward only. A server may leave a site out of a round, so steps may be skipped; but
none may be begun once a later one was paid for: nobody takes an earlier round up again and trains
another branch from it.
"""

from collections.abc import Collection
from contextlib import AbstractContextManager

from structlog.contextvars import bound_contextvars

from sordino_client.refusals import RefusedError
from sordino_protocols.job import Job, weights_digest
from sordino_protocols.messages import Evaluate, Message, Refusal, RoundPlan
from sordino_protocols.models import parameter_count
from sordino_protocols.scaling import Scaling, scaling_from
from sordino_protocols.schema import Schema

STATISTICS = "statistics"
TABLES = "tables"
EVALUATION = "evaluation"
UNMASKED = "unmasked"
"""Kept like a release, though it depends on no record and is not paid for."""

_ROUND = "round-"


def round_step(number: int) -> str:
    """The step of a round; rounds count from 1."""
    return f"{_ROUND}{number}"


def require_forward(step: str, reserved: Collection[str]) -> None:
    """Return if a step does not come before one that was paid for.

    A step that was paid for itself may be made at any time: that is how a crash is survived.

    Raises:
        RefusedError: it does.
    """
    later = [each for each in reserved if _place(each) > _place(step)]
    if step not in reserved and later:
        raise RefusedError(Refusal.OUT_OF_ORDER, f"{step} would come after {later[-1]}")


def checked_scaling(job: Job, request: RoundPlan | Evaluate, schema: Schema) -> Scaling | None:
    """The request's scaling, if its vectors are the run's; `wire` saw that they are finite.

    Raises:
        RefusedError: the shapes are others, or these are not the weights that are to be validated.
    """
    size = (
        parameter_count(job.file.require_model(), schema.feature_count) + job.plan.extra_coordinates
    )
    validation, scaled = job.file.validation, 2 * schema.feature_count
    if validation is not None:
        scalings = {0, scaled}
    else:
        scalings = {0 if job.plan.statistics is None else scaled}
    if request.weights.shape != (size,) or request.scaling.size not in scalings:
        reason = f"weights and scaling must have {size} and {sorted(scalings)} values"
        raise RefusedError(Refusal.WRONG_SHAPE, reason)
    if validation is not None:
        digest = weights_digest(request.weights, request.scaling)
        if digest != validation.weights_sha256:
            raise RefusedError(Refusal.WRONG_SHAPE, "these are not the weights that were signed")
    return scaling_from(request.scaling) if request.scaling.size else None


def logged_with(message: Message) -> AbstractContextManager[None]:
    """Name run and round in every line that is logged while a request is answered."""
    if isinstance(message, RoundPlan):
        return bound_contextvars(run_id=message.run_id, round=message.round)
    return bound_contextvars(run_id=message.run_id)


def _place(step: str) -> float:
    match step:
        case "statistics":
            return 0
        case "tables":
            return 0.5  # a run that has tables has no rounds
        case "evaluation":
            return float("inf")
        case _:
            return int(step.removeprefix(_ROUND))
