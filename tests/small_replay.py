"""Replays of few small federations, and faults to plant in their noise."""

from functools import cache

import numpy as np
from federation import SCHEMA
from numpy.typing import NDArray
from seeded_noise import SeededNoise
from small_job import job_text, read_file

from sordino_audit.replay.plan import ReplayDesign, ReplayPlan, make_plan
from sordino_client.training.noise import SecureNoise
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job
from sordino_protocols.pricing import resolve
from sordino_protocols.schema import Schema

LANES = 16
LOGISTIC = job_text(f"[audit]\nlanes = {LANES}", rounds=3, epsilon=1)
JOB = LOGISTIC.replace('kind = "logistic"', 'kind = "mlp"\nhidden = [12]\nactivation = "tanh"')


@cache
def make_job(text: str = JOB) -> Job:
    """A job with its noise; each text is resolved once."""
    return resolve(read_file(text))


def read_schema(text: str = SCHEMA) -> Schema:
    """A schema, by default of three numbers."""
    return parse_toml(text, Schema, source="dataset.toml")


def small_design(*, seed: int = 1, federations: int = 8, poisons: int = 0) -> ReplayDesign:
    """A design that takes a few seconds."""
    return ReplayDesign(
        seed=seed,
        federations=federations,
        sites=3,
        units=60,
        canaries_per_kind=8,
        poisons=poisons,
    )


def small_plan(
    design: ReplayDesign | None = None, *, job: str = JOB, schema: str = SCHEMA
) -> ReplayPlan:
    """A plan with made-up records."""
    return make_plan(make_job(job), read_schema(schema), design or small_design())


class RepeatableNoise(SeededNoise):
    """As much noise as there should be, the same in every test run; it says that it is secure."""

    @property
    def is_secure(self) -> bool:
        return True


class ScaledNoise(SecureNoise):
    """The planted fault of too little noise, in a source that says it is secure."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def standard_normal(self, count: int) -> NDArray[np.float64]:
        return self._factor * super().standard_normal(count)


class NoiseInLanesOnly(SecureNoise):
    """The planted fault of a hostile trainer: it makes noise where lanes are audited."""

    def __init__(self, lane_coordinates: int) -> None:
        self._lane_coordinates = lane_coordinates

    def standard_normal(self, count: int) -> NDArray[np.float64]:
        drawn = super().standard_normal(count)
        drawn[: count - self._lane_coordinates] = 0
        return drawn
