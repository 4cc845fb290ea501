"""Whether what a site says of itself, of its features and of its evaluation can be true.

The counterpart of `aggregation.check_update` for what is no update: one site's bytes must not
stretch the run, or drown the others' evaluation, unseen.
"""

import math
from collections.abc import Mapping

import numpy as np

from sordino_protocols.bits import Bits, unpack_bits
from sordino_protocols.errors import InputError, PeerError
from sordino_protocols.feature_statistics import noise_std, release_length
from sordino_protocols.messages import Admission
from sordino_protocols.models import FloatVector
from sordino_protocols.plan import EvaluationPlan, StatisticsPlan
from sordino_protocols.schema import LARGEST_FEATURE_COUNT

LARGEST_ORDER_OF_MAGNITUDE = 10**12
"""What a schema may declare."""

# A declared order of magnitude may be off by half an order, and still be one.
_HALF_AN_ORDER = math.sqrt(10)
_FALSE_ALARM = 1e-9


def check_admission(admission: Admission, *, has_statistics: bool) -> None:
    """Refuse a declaration that no schema can make.

    Args:
        admission: what the site says.
        has_statistics: whether the job wants features measured.

    Raises:
        PeerError: a size out of range, or no features to measure.
    """
    if not 1 <= admission.order_of_magnitude <= LARGEST_ORDER_OF_MAGNITUDE:
        raise PeerError("the declared order of magnitude is out of range")
    if not 1 <= admission.feature_count <= LARGEST_FEATURE_COUNT:
        raise PeerError("the declared number of features is out of range")
    if not (math.isfinite(admission.label_scale) and admission.label_scale > 0):
        raise PeerError("the declared scale of the label is out of range")
    if bool(admission.measured) != has_statistics:
        raise PeerError("the declared measured features are not what the job asks for")
    if has_statistics and not _measured(admission).any():
        raise PeerError("no feature is measured")


def check_same_columns(admissions: Mapping[str, Admission]) -> None:
    """Return if all sites declare the same columns: else their weights have different meanings.

    Raises:
        InputError: they do not; names who goes with whom.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    for site, each in sorted(admissions.items()):
        declared = (each.feature_count, each.feature_digest, each.measured, each.label_scale)
        groups.setdefault(declared, []).append(site)
    if len(groups) > 1:
        listed = " / ".join(", ".join(sites) for sites in groups.values())
        raise InputError(f"the sites declare different columns for this data set: {listed}")


def check_histogram(histogram: FloatVector, plan: EvaluationPlan, *, units: int) -> None:
    """Refuse a table that no honest site would send.

    A cell holds at most every unit the site may have, and noise that passes this bound in any cell
    with probability below 1e-9 (union of Gaussian tails).

    Args:
        histogram: one site's noisy table, flat.
        plan: what the site had to release.
        units: the site's declared order of magnitude.

    Raises:
        PeerError: another length, or a cell that is out of bounds.
    """
    cells = math.prod(plan.shape)
    if histogram.shape != (cells,):
        raise PeerError(f"the histogram has shape {histogram.shape}; expected ({cells},)")
    # Rounded to whole counts.
    noise = _largest_noise(plan.noise_multiplier, cells) + 1
    if not (np.all(histogram >= -noise) and np.all(histogram <= _HALF_AN_ORDER * units + noise)):
        raise PeerError("the histogram has counts that units and noise cannot make")


def check_statistics(
    vector: FloatVector, plan: StatisticsPlan, *, features: int, units: int
) -> None:
    """Refuse statistics that no honest site would send; bounds as of `check_histogram`.

    Args:
        vector: one site's noisy statistics.
        plan: what the site had to release.
        features: how many are measured.
        units: the site's declared order of magnitude.

    Raises:
        PeerError: another length, or a number that is out of bounds.
    """
    length = release_length(plan, features)
    if vector.shape != (length,):
        raise PeerError(f"the statistics have shape {vector.shape}; expected ({length},)")
    noise = _largest_noise(noise_std(plan, features), length) + 1
    most = _HALF_AN_ORDER * units + noise
    least = np.full(length, -noise)
    if plan.kind == "moments":
        least[:features] = -most
    if not (np.all(vector >= least) and np.all(vector <= most)):
        raise PeerError("the statistics have sums that units and noise cannot make")


def _largest_noise(std: float, count: int) -> float:
    """What none of `count` draws passes, but with probability below 1e-9."""
    return std * math.sqrt(2 * math.log(2 * count / _FALSE_ALARM))


def _measured(admission: Admission) -> Bits:
    try:
        return unpack_bits(admission.measured, admission.feature_count)
    except InputError as error:
        raise PeerError(str(error)) from None
