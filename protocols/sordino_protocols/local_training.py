"""What a site does between the noisy sums of one round: public data, free of privacy cost.

A site's optimiser works on noisy sums alone and forgets everything at the end of a round: what it
would carry over is not in the release, and a site keeps no state of a run but what it paid for.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from sordino_protocols.files import STRICT


class LocalSgd(BaseModel):
    """Gradient descent, with momentum inside the round (Polyak 1964); 0 is none."""

    model_config = STRICT

    kind: Literal["sgd"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0


LOCAL_SGD = LocalSgd()


class LocalAdam(BaseModel):
    """Adam whose second moment is freed of the noise's own variance (Tang et al. 2024, alg. 1).

    Attributes:
        beta1: memory of the first moment.
        beta2: memory of the second moment.
        stability: the smallest root of a second moment that is divided by.
    """

    model_config = STRICT

    kind: Literal["adam"]
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    stability: Annotated[float, Field(gt=0, le=1)] = 0.01


def _kind(value: object) -> str | None:
    found = value.get("kind", "sgd") if isinstance(value, dict) else getattr(value, "kind", None)
    return found if isinstance(found, str) else None


LocalOptimizer = Annotated[
    Annotated[LocalSgd, Tag("sgd")] | Annotated[LocalAdam, Tag("adam")], Discriminator(_kind)
]


class Augmentation(BaseModel):
    """Random views of each image, their gradients averaged before the clipping (De et al. 2022).

    A unit still brings one gradient of norm C at most, so views cost time and no privacy.

    Attributes:
        image: channels, height, width of a record's features, in that order.
        views: of each record, in each step.
        shift: the largest number of pixels an image moves, up, down, left or right.
        flip: whether half of the views are mirrored, left to right.
    """

    model_config = STRICT

    image: Annotated[
        tuple[
            Annotated[int, Field(ge=1, le=64)],
            Annotated[int, Field(ge=1, le=1024)],
            Annotated[int, Field(ge=1, le=1024)],
        ],
        Field(strict=False),
    ]
    views: Annotated[int, Field(ge=1, le=64)]
    shift: Annotated[int, Field(ge=0, le=32)] = 0
    flip: bool = False
