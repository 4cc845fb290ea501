"""How far members and strangers are apart in what rows say of an attribute (Xu et al. 2022, MACE).

An attacker asks the synthetic rows one question about a record, for instance how many rows agree
with it in some columns. How well the best attacker tells members from strangers by the answer alone
is a divergence of two distributions: their total variation, which is the best true positive rate
less its false positive rate. It is estimated on one half of the records and judged on the other, so
the interval covers an advantage that somebody really has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_audit.bounds.clopper_pearson import upper_limit
from sordino_audit.bounds.ranges import require_confidence
from sordino_audit.findings import Interval

Cells = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_BINS = 16
_FEWEST = 4


@dataclass(frozen=True, slots=True)
class Divergence:
    """How much one question tells of membership.

    Attributes:
        query: what is asked.
        advantage: true positive rate less false positive rate, of guesses on unseen records.
        most: the largest advantage that the claim allows for one record.
        records: how many were judged.
    """

    query: str
    advantage: Interval
    most: float
    records: int


def largest_advantage(epsilon: float, delta: float) -> float:
    """The most that (epsilon, delta)-DP allows: where both errors of its trade-off curve are equal.

    Kairouz et al. 2015, thm. 2.1.
    """
    return float((np.expm1(epsilon) + 2 * delta) / (np.exp(epsilon) + 1))


def agreement(rows: Cells, records: Cells, positions: Sequence[int]) -> Floats:
    """Of each record, the share of rows that agree with it in all of these positions, [records]."""
    chosen = list(positions)
    kinds, where = np.unique(
        np.concatenate([rows[:, chosen], records[:, chosen]]), axis=0, return_inverse=True
    )
    codes = where.ravel()
    counted = np.bincount(codes[: len(rows)], minlength=len(kinds))
    shares: Floats = counted[codes[len(rows) :]] / max(len(rows), 1)
    return shares


def divergences(
    rows: Cells,
    members: Cells,
    strangers: Cells,
    queries: Mapping[str, Sequence[int]],
    *,
    most: float,
    confidence: float,
    rng: np.random.Generator,
) -> tuple[Divergence, ...]:
    """What each question tells of membership.

    Records of one run share its noise, so an interval here is no bound on the epsilon of the code.

    Args:
        rows: synthetic, [rows, positions].
        members: records that were there, [members, positions].
        strangers: records of the same population that were not.
        queries: positions by what is asked.
        most: the largest advantage that the claim allows.
        confidence: of each interval.
        rng: halves the records.

    Raises:
        ValueError: fewer than four records on a side, or a confidence outside (0, 1).
    """
    return tuple(
        Divergence(
            query,
            advantage(
                agreement(rows, members, positions),
                agreement(rows, strangers, positions),
                confidence=confidence,
                rng=rng,
            ),
            most,
            len(members) // 2 + len(strangers) // 2,
        )
        for query, positions in queries.items()
    )


def advantage(
    members: Floats, strangers: Floats, *, confidence: float, rng: np.random.Generator
) -> Interval:
    """The advantage of guessing membership from one answer, with an exact interval.

    On one half of the records each bin of answers is called a member's where members are denser; on
    the other half both rates have Clopper-Pearson limits that hold together (Bonferroni).

    Args:
        members: an answer a member.
        strangers: an answer a stranger.
        confidence: of the interval.
        rng: halves the records.

    Raises:
        ValueError: fewer than four records on a side, or a confidence outside (0, 1).
    """
    require_confidence(confidence)
    if min(len(members), len(strangers)) < _FEWEST:
        raise ValueError("expected at least four records on each side")
    (learnt_in, judged_in), (learnt_out, judged_out) = (
        np.array_split(rng.permutation(each), 2) for each in (members, strangers)
    )
    edges = np.unique(np.quantile(np.concatenate([learnt_in, learnt_out]), _quantiles()))
    dense = _shares(learnt_in, edges) > _shares(learnt_out, edges)
    hits, alarms = (int(np.sum(dense[_bins(each, edges)])) for each in (judged_in, judged_out))
    return _difference(hits, len(judged_in), alarms, len(judged_out), confidence)


def _difference(
    hits: int, members: int, alarms: int, strangers: int, confidence: float
) -> Interval:
    tail = (1 - confidence) / 4
    highest_hits, highest_alarms = (
        float(upper_limit(count, of, tail)) for count, of in ((hits, members), (alarms, strangers))
    )
    lowest_hits = 1 - float(upper_limit(members - hits, members, tail))
    lowest_alarms = 1 - float(upper_limit(strangers - alarms, strangers, tail))
    return Interval(
        low=lowest_hits - highest_alarms,
        estimate=hits / members - alarms / strangers,
        high=highest_hits - lowest_alarms,
    )


def _quantiles() -> Floats:
    return np.linspace(0, 1, _BINS + 1)[1:-1]


def _shares(answers: Floats, edges: Floats) -> Floats:
    counts = np.bincount(_bins(answers, edges), minlength=len(edges) + 1)
    return counts / len(answers)


def _bins(answers: Floats, edges: Floats) -> npt.NDArray[np.int64]:
    return np.searchsorted(edges, answers, side="right")
