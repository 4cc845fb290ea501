"""Attacks on synthetic rows of made-up records: who was a member, of all questions and of one.

Members, strangers and the population that an attacker has are drawn alike from a shape, so nothing
but membership tells them apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_audit.attacks.results import AttackResult
from sordino_audit.synthesis.discriminator import discriminator_auc
from sordino_audit.synthesis.divergence import Divergence, divergences, largest_advantage
from sordino_audit.synthesis.nearest import NearestRecords, nearest_records
from sordino_audit.synthesis.queries import Design, Synthesizer, query_attack
from sordino_audit.synthesis.subject import drawn_cells, extreme_cells
from sordino_protocols.privacy import Guarantee
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.shapes import DomainShape, SingleShape, width_of

Cells = npt.NDArray[np.int32]

EVERYTHING = "all columns"


@dataclass(frozen=True, slots=True, eq=False)
class Crowd:
    """Made-up records of one kind.

    Attributes:
        members: of the table that rows are made of.
        strangers: as many that were not there.
        population: others that were not there, which the attacker has.
    """

    members: Cells
    strangers: Cells
    population: Cells


@dataclass(frozen=True, slots=True)
class RowAttacks:
    """What one synthetic table says of its members.

    Attributes:
        divergences: by attribute, and of all attributes together.
        discriminator: AUC of a discriminator; None where none was trained.
        nearest: the diagnostic that nothing rests on.
    """

    divergences: tuple[Divergence, ...]
    discriminator: float | None
    nearest: NearestRecords


def drawn_crowd(shape: DomainShape, count: int, *, rng: np.random.Generator) -> Crowd:
    """So many records of each kind."""
    return Crowd(*(drawn_cells(shape, count, rng=rng) for _ in range(3)))


def attack_one_table(
    rows: Cells,
    crowd: Crowd,
    schema: Schema,
    *,
    claim: Guarantee,
    confidence: float,
    rng: np.random.Generator,
    has_discriminator: bool,
) -> RowAttacks:
    """Attack one table.

    Args:
        rows: synthetic, made of the crowd's members.
        crowd: the records.
        schema: of all of them.
        claim: of the release.
        confidence: of every interval.
        rng: halves records, and seeds the discriminator.
        has_discriminator: whether to train one.

    Raises:
        ValueError: too few records.
    """
    shape = domain_of(schema).shape
    found = divergences(
        rows,
        crowd.members,
        crowd.strangers,
        positions_by_column(schema),
        most=largest_advantage(claim.epsilon, claim.delta),
        confidence=confidence,
        rng=rng,
    )
    told = None
    if has_discriminator:
        seed = int(rng.integers(2**31))
        told = discriminator_auc(
            rows, crowd.members, crowd.strangers, crowd.population, shape=shape, seed=seed
        )
    return RowAttacks(found, told, nearest_records(rows, crowd.members, crowd.strangers))


def attack_with_shadows(
    synthesize: Synthesizer,
    shape: DomainShape,
    design: Design,
    *,
    units: int,
    rng: np.random.Generator,
) -> AttackResult:
    """The query-based attack on a target that has every cell to itself: the worst of records.

    Args:
        synthesize: from records to rows.
        shape: of both.
        design: how much is done.
        units: of the table besides the target.
        rng: draws records and queries.
    """
    target = extreme_cells(shape)[1]
    others = without(target, drawn_cells(shape, units, rng=rng), shape)
    return query_attack(synthesize, others, target, design, rng=rng)


def without(target: Cells, cells: Cells, shape: DomainShape) -> Cells:
    """The same records, moved out of every cell that the target is in, as far as there are others.

    Args:
        target: a record, [positions].
        cells: [units, positions]; it is not changed.
        shape: of both.
    """
    moved = cells.copy()
    for start, column in zip(shape.starts(), shape.columns, strict=True):
        places = slice(start, start + width_of(column))
        if isinstance(column, SingleShape):
            moved[:, places] = np.where(
                moved[:, places] == target[places],
                (target[places] + 1) % column.fine,
                moved[:, places],
            )
        else:
            moved[:, places] *= 1 - target[places]
    return moved


def positions_by_column(schema: Schema) -> Mapping[str, Sequence[int]]:
    """The positions of each column by its name, and of all columns together."""
    domain = domain_of(schema)
    found = {
        column.name: range(start, start + width_of(column.shape))
        for start, column in domain.starts()
    }
    return {**found, EVERYTHING: range(domain.shape.position_count)}
