"""Learning-rate schedules: functions of the round's number alone, so they cost no privacy."""

import math
from typing import Annotated, Literal, assert_never

from pydantic import BaseModel, Field, model_validator

from sordino_protocols.files import STRICT


class Schedule(BaseModel):
    """What a learning rate is multiplied with, as a run goes on.

    Attributes:
        decay: after the warm-up: none, a straight line, or half a cosine (Loshchilov & Hutter
            2017, eq. 5), down to `final`.
        warmup: share of the run in which the rate rises from near zero, in a straight line.
        final: share of the rate that is left at the end.
    """

    model_config = STRICT

    decay: Literal["none", "linear", "cosine"] = "none"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    final: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> "Schedule":
        if self.decay == "none" and self.final:
            raise ValueError("final has no effect without decay = 'linear' or 'cosine'")
        return self

    def factor(self, step: int, *, steps: int) -> float:
        """The factor of step `step`, counted from 0, of `steps`; in (0, 1], 0 never but at the end.

        Raises:
            ValueError: there is no such step.
        """
        if not 0 <= step < steps:
            raise ValueError(f"step {step} of {steps}")
        warm = math.floor(self.warmup * steps)
        if step < warm:
            return (step + 1) / (warm + 1)
        progress = (step - warm) / max(steps - warm, 1)
        match self.decay:
            case "none":
                return 1.0
            case "linear":
                left = 1 - progress
            case "cosine":
                left = (1 + math.cos(math.pi * progress)) / 2
            case _:
                assert_never(self.decay)
        return self.final + (1 - self.final) * left


CONSTANT = Schedule()
