"""The query-based attack on synthetic rows, with shadow releases (Houssiau et al. 2022).

The attacker knows everybody's record but whether one target's was there, and the code that was run.
They make synthetic tables with and without the target, answer the same counting queries on each,
all about the target, and learn which answers give it away. What they learn is judged on releases
that they never saw. Each release is a run of its own, so the bound assumes nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_audit.attacks.results import Assumption, AttackResult, attack_result

Cells = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Synthesizer = Callable[[Cells], Cells]
"""From a site's cells [units, positions] to synthetic rows [rows, positions]."""

NAME = "query-based, with shadow releases"

_RIDGE = 0.1
_LARGEST_QUERY = 4


@dataclass(frozen=True, slots=True)
class Design:
    """How much an attack does.

    Attributes:
        shadows: releases to learn from, with the target and as many without.
        judged: releases to judge on, with the target and as many without.
        queries: how many, all about the target.
        delta: at which epsilon is bounded.
        confidence: of the bound.
    """

    shadows: int
    judged: int
    queries: int = 100
    delta: float = 1e-5
    confidence: float = 0.95


def queries_about(
    positions: int, count: int, *, rng: np.random.Generator
) -> tuple[tuple[int, ...], ...]:
    """Sets of positions in which rows must agree with the target: all alone, then drawn ones.

    Args:
        positions: how many a row has.
        count: how many queries; fewer than positions leave some of these out.
        rng: draws sets of two to four positions.
    """
    alone = [(each,) for each in range(positions)]
    largest = min(_LARGEST_QUERY, positions)
    drawn = [
        tuple(sorted(rng.choice(positions, rng.integers(2, largest + 1), replace=False).tolist()))
        for _ in range(max(0, count - len(alone)) if largest > 1 else 0)
    ]
    return (*alone[:count], *drawn)


def answers(rows: Cells, target: Cells, queries: Sequence[tuple[int, ...]]) -> Floats:
    """Of each query, how many rows agree with the target in all its positions, [queries]."""
    agrees = rows == target
    return np.array(
        [np.count_nonzero(agrees[:, list(each)].all(axis=1)) for each in queries], dtype=np.float64
    )


def query_attack(
    synthesize: Synthesizer,
    others: Cells,
    target: Cells,
    design: Design,
    *,
    rng: np.random.Generator,
) -> AttackResult:
    """Attack rows that were made with and without one record.

    Args:
        synthesize: what is attacked.
        others: everybody else's records, known to the attacker, [units, positions].
        target: the record, [positions].
        design: how much is done.
        rng: draws queries, and nothing of the releases.
    """
    queries = queries_about(len(target), design.queries, rng=rng)
    everybody = np.vstack([others, target]).astype(np.int32)

    def draw(has_target: bool) -> Floats:  # noqa: FBT001
        return answers(synthesize(everybody if has_target else others), target, queries)

    return shadow_attack(draw, design, rng=rng)


def shadow_attack(
    draw: Callable[[bool], Floats],
    design: Design,
    *,
    rng: np.random.Generator,
) -> AttackResult:
    """Attack anything that answers in numbers, with and without a target.

    Scores are those of a linear discriminant (Fisher 1936) that half of the releases teach.

    Args:
        draw: makes a release, with the target or without, and answers [queries] on it.
        design: how much is done.
        rng: splits the judged scores.

    Raises:
        ValueError: fewer than two releases to learn from or to judge.
    """
    if min(design.shadows, design.judged) < 2:  # noqa: PLR2004
        raise ValueError("expected at least two releases to learn from, and two to judge")
    with_target, without = (
        np.stack([draw(has_target) for _ in range(design.shadows + design.judged)])
        for has_target in (True, False)
    )
    direction = discriminant(with_target[: design.shadows], without[: design.shadows])
    return attack_result(
        NAME,
        with_target[design.shadows :] @ direction,
        without[design.shadows :] @ direction,
        assumption=Assumption.INDEPENDENT_RUNS,
        delta=design.delta,
        confidence=design.confidence,
        rng=rng,
    )


def discriminant(with_target: Floats, without: Floats) -> Floats:
    """What to read answers by: the difference of the means over a regularised covariance.

    Args:
        with_target: answers [releases, queries].
        without: of releases without the target.

    Returns:
        [queries]; answers that never vary count for nothing.
    """
    difference = with_target.mean(axis=0) - without.mean(axis=0)
    centred = np.vstack([each - each.mean(axis=0) for each in (with_target, without)])
    spread = centred.std(axis=0)
    # An answer that is the same in all releases of each side, and differs, tells everything.
    scale = np.where(spread > 0, spread, 1.0)
    scaled = centred / scale
    covariance = scaled.T @ scaled / len(scaled)
    regular = covariance + _RIDGE * np.eye(len(scale))
    direction: Floats = np.linalg.solve(regular, difference / scale) / scale
    return direction
