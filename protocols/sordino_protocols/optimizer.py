"""The server's optimiser as public data: it works on noisy sums only, so it costs no privacy.

Regularisation belongs here, behind the noise: a penalty inside the loss would be clipped along with
the records' gradients.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from sordino_protocols.files import STRICT
from sordino_protocols.schedules import CONSTANT, Schedule

Positive = Annotated[float, Field(gt=0, le=1e6)]


class _Averaged(BaseModel):
    """What all optimisers have.

    Attributes:
        learning_rate: step length on the noisy mean gradient, or on the mean of noisy deltas.
        schedule: what the learning rate is multiplied with, by round.
        average_from: the released model is the mean of the weights after this fraction of the
            rounds (Polyak & Juditsky 1992): averaging cancels noise for free. 1 keeps the last.
        average_decay: an exponential moving average with this memory a round in place of the mean.
    """

    model_config = STRICT

    learning_rate: Positive
    schedule: Schedule = CONSTANT
    average_from: Annotated[float, Field(ge=0, le=1)] = 0.5
    average_decay: Annotated[float, Field(gt=0, lt=1)] | None = None


class SgdOptimizer(_Averaged):
    """Gradient descent with momentum.

    Attributes:
        momentum: share of the last step that is kept (Polyak 1964); 0 is none.
        weight_decay: share of the weights that a step of length 1 takes off (Loshchilov & Hutter
            2019).
    """

    kind: Literal["sgd"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0


class AdamOptimizer(_Averaged):
    """Adam whose second moment is freed of the noise's own variance (Tang et al. 2024, alg. 1).

    Attributes:
        beta1: memory of the first moment.
        beta2: memory of the second moment.
        stability: the smallest root of a second moment that is divided by.
        weight_decay: as for `SgdOptimizer`.
    """

    kind: Literal["adam"]
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    stability: Annotated[float, Field(gt=0, le=1)] = 0.01
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0


class SgldOptimizer(_Averaged):
    """DP-SGLD: Langevin steps whose noise is the privacy noise (Wang, Fienberg & Smola 2015).

    The weights wander over the posterior of the summed loss and a normal prior, at a temperature.
    What the privacy noise lacks of the Langevin noise the server adds; where it has more, the run
    is refused. The guarantee is that of the noisy sums, step by step, and nothing else: no claim
    is made from the posterior's own randomness or about the last iterate alone (Chourasia et al.
    2021 need strong convexity for theirs).

    Attributes:
        temperature: of the posterior; 1 is Bayes' own.
        prior_precision: inverse variance of the normal prior on every weight.
    """

    kind: Literal["sgld"]
    temperature: Positive = 1.0
    prior_precision: Annotated[float, Field(ge=0, le=1e6)] = 1.0

    @model_validator(mode="after")
    def _check(self) -> "SgldOptimizer":
        if self.average_decay is not None:
            raise ValueError("average_decay has no meaning for samples of a posterior; remove it")
        return self


def _kind(value: object) -> str | None:
    found = value.get("kind", "sgd") if isinstance(value, dict) else getattr(value, "kind", None)
    return found if isinstance(found, str) else None


ServerOptimizer = Annotated[
    Annotated[SgdOptimizer, Tag("sgd")]
    | Annotated[AdamOptimizer, Tag("adam")]
    | Annotated[SgldOptimizer, Tag("sgld")],
    Discriminator(
        _kind,
        custom_error_type="optimizer_kind",
        custom_error_message="kind must be 'sgd', 'adam' or 'sgld'",
    ),
]
