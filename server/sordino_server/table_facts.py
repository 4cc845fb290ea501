"""What a run that made a table publishes of it: counts with intervals, or how a synthesis went.

Everything here is computed from what the sites released, and paid for; nothing is asked again.
"""

import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
from pydantic import BaseModel

from sordino_protocols.files import STRICT
from sordino_protocols.messages import Integers
from sordino_protocols.plan import CountPlan, ItemsWanted, SynthesisMode
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.specs import GeneratorSpec


class Descriptions(BaseModel):
    """The public schemas of a data set, as each site's admin declared it."""

    model_config = STRICT

    sites: dict[str, Schema]


class TableFacts(BaseModel):
    """What a noisy table says of itself.

    Attributes:
        units: how many privacy units there seem to be, from the noisy counts.
        units_std: standard deviation of that.
        chi_squared_per_cell: squared distance of the fitted generator from the noisy counts, in
            variances of their noise, a cell: about 1 where the fit is as good as the noise.
    """

    model_config = STRICT

    units: float
    units_std: float
    chi_squared_per_cell: float


class SynthesisFacts(BaseModel):
    """How a synthesis went.

    Attributes:
        mode: what the sites released.
        generator: how the rows are made.
        declared: the schema of the table.
        sites: whose table, or whose part of the sum, is in it.
        missing: sites of a sum that stayed silent.
        tables: by site; in mode "sum" of the whole alone, as "sum"; none in mode "table".
        rows: how many rows each site made; in mode "table".
        epsilon: that one unit at one site lost to what the server can learn, by PLD; in mode "sum"
            as long as the masks hold, and no more than `silent` sites are missing or reveal their
            noise.
        epsilon_without_masks: the same if nobody else is trusted; what the site's ledger charged.
        delta: of both.
    """

    model_config = STRICT

    mode: SynthesisMode
    generator: GeneratorSpec
    declared: Schema
    sites: tuple[str, ...]
    missing: tuple[str, ...]
    tables: dict[str, TableFacts]
    rows: dict[str, int]
    epsilon: float
    epsilon_without_masks: float
    delta: float


class ItemsFacts(BaseModel):
    """What items of a set a query wants; see `plan.ItemsWanted`."""

    model_config = STRICT

    any: tuple[str, ...]
    all: tuple[str, ...]
    none: tuple[str, ...]


class CountFacts(BaseModel):
    """A question, the sites' noisy answers, and their sum with its interval.

    Attributes:
        name: of the query.
        where: its conditions, by column.
        value: the sum of the answers; below zero where there are few and much noise.
        lower: of the interval that holds the true sum with the confidence; at least 0.
        upper: of the same.
        sites: the noisy answers.
    """

    model_config = STRICT

    name: str
    where: dict[str, str | ItemsFacts]
    value: int
    lower: float
    upper: float
    sites: dict[str, int]


class Counts(BaseModel):
    """All answers to a job's counting queries.

    Attributes:
        answers: in the order of the job.
        sites: who answered.
        noise_std: standard deviation of the noise on one site's answer.
        confidence: of each interval alone.
    """

    model_config = STRICT

    answers: tuple[CountFacts, ...]
    sites: tuple[str, ...]
    noise_std: float
    confidence: float


def count_facts(plan: CountPlan, answers: Mapping[str, Integers], *, confidence: float) -> Counts:
    """What is published of counting queries.

    Args:
        plan: what was asked.
        answers: by site, a number a query; at least one site.
        confidence: of each interval, by a normal tail: each site's noise is a discrete Gaussian.
    """
    spread = NormalDist().inv_cdf((1 + confidence) / 2) * plan.noise_multiplier
    half = spread * math.sqrt(len(answers))
    totals = np.sum([each.astype(np.int64) for each in answers.values()], axis=0)
    found = tuple(
        CountFacts(
            name=query.name,
            where={column: _condition(each) for column, each in query.where},
            value=int(total),
            lower=max(0.0, int(total) - half),
            upper=max(0.0, int(total) + half),
            sites={site: int(each[place]) for site, each in sorted(answers.items())},
        )
        for place, (query, total) in enumerate(zip(plan.queries, totals, strict=True))
    )
    return Counts(
        answers=found,
        sites=tuple(sorted(answers)),
        noise_std=plan.noise_multiplier,
        confidence=confidence,
    )


def _condition(condition: str | ItemsWanted) -> str | ItemsFacts:
    match condition:
        case ItemsWanted(some, every, no):
            return ItemsFacts(any=some, all=every, none=no)
        case text:
            return text
