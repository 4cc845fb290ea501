"""How a unit's gradient is brought to the clipping norm C: four rules, each bounded by C.

Every rule is public data and bounds the L2 norm of what one unit adds to a sum by C, so the event
of the plan is the same for all of them.
"""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sordino_protocols.files import STRICT

# The threshold of adaptive clipping stays within this factor of the job's norm, both ways.
LARGEST_ADAPTATION = 1e4


class FlatClipping(BaseModel):
    """The whole gradient is scaled to norm C where it is longer (Abadi et al. 2016)."""

    model_config = STRICT

    kind: Literal["flat"] = "flat"


FLAT = FlatClipping()


class PerLayerClipping(BaseModel):
    """Each of L layers with parameters is clipped alone, to C / sqrt(L) (McMahan et al. 2018)."""

    model_config = STRICT

    kind: Literal["per_layer"]


class NormalizedClipping(BaseModel):
    """Every gradient g becomes C g / (|g| + stability): nothing to tune (Bu et al. 2023, eq. 4).

    Attributes:
        stability: keeps a gradient that is almost zero from becoming a long one.
    """

    model_config = STRICT

    kind: Literal["normalized"]
    stability: Annotated[float, Field(gt=0, le=1e6)] = 0.01


class AdaptiveClipping(BaseModel):
    """The threshold follows a quantile of the gradients' norms (Andrew et al. 2021).

    Each unit adds to one more coordinate whether its norm was below the threshold. That coordinate
    is clipped together with the gradient and gets the same noise, so the quantile is paid for by
    the plan's own event: with `share` s the gradient has sqrt(1 - s^2) C of the norm, the bit s C.

    Attributes:
        quantile: share of units whose gradient shall be left as it is.
        learning_rate: step of the threshold's logarithm, a round.
        share: of the norm, for the bit.
    """

    model_config = STRICT

    kind: Literal["adaptive"]
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.5
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.2
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @property
    def gradient_share(self) -> float:
        """Of the norm, for the gradient."""
        return math.sqrt(1 - self.share**2)

    def bit(self, *, is_below: bool) -> float:
        """What a unit adds for one whole `share`, in [-1, 1]; zero on average at the quantile."""
        largest = max(self.quantile, 1 - self.quantile)
        return ((1 - self.quantile) if is_below else -self.quantile) / largest

    def norm(self, clipping_norm: float, weight: float) -> float:
        """The clipping norm at a weight of the threshold's coordinate: C exp(weight), in bounds.

        Total, because a weight may come from an adversary: what is no number counts as 0.
        """
        bound = math.log(LARGEST_ADAPTATION)
        logarithm = 0.0 if math.isnan(weight) else weight
        return clipping_norm * math.exp(min(max(logarithm, -bound), bound))


ClippingRule = Annotated[
    FlatClipping | PerLayerClipping | NormalizedClipping | AdaptiveClipping,
    Field(discriminator="kind"),
]
