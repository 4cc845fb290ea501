"""Whether what a site says of itself, and of its evaluation, can be true.

The counterpart of `aggregation.check_update` for what is no update: one site's bytes must not
stretch the run, or drown the others' evaluation, unseen.
"""

import math
from collections.abc import Mapping

import numpy as np

from sordino_protocols.errors import InputError, PeerError
from sordino_protocols.messages import Admission
from sordino_protocols.models import FloatVector
from sordino_protocols.plan import EvaluationPlan
from sordino_protocols.schema import LARGEST_CATEGORY_COUNT, LARGEST_COLUMN_COUNT

LARGEST_ORDER_OF_MAGNITUDE = 10**12
"""What a schema may declare."""

_LARGEST_FEATURE_COUNT = LARGEST_COLUMN_COUNT * LARGEST_CATEGORY_COUNT
# A declared order of magnitude may be off by half an order, and still be one.
_HALF_AN_ORDER = math.sqrt(10)
_FALSE_ALARM = 1e-9


def check_admission(admission: Admission) -> None:
    """Refuse a declaration that no schema can make.

    Raises:
        PeerError: a size out of range.
    """
    if not 1 <= admission.order_of_magnitude <= LARGEST_ORDER_OF_MAGNITUDE:
        raise PeerError("the declared order of magnitude is out of range")
    if not 1 <= admission.feature_count <= _LARGEST_FEATURE_COUNT:
        raise PeerError("the declared number of features is out of range")


def check_same_columns(admissions: Mapping[str, Admission]) -> None:
    """Return if all sites declare the same columns: else their weights have different meanings.

    Raises:
        InputError: they do not; names who goes with whom.
    """
    groups: dict[tuple[int, str], list[str]] = {}
    for site, each in sorted(admissions.items()):
        groups.setdefault((each.feature_count, each.feature_digest), []).append(site)
    if len(groups) > 1:
        listed = " / ".join(", ".join(sites) for sites in groups.values())
        raise InputError(f"the sites declare different columns for this data set: {listed}")


def check_histogram(histogram: FloatVector, plan: EvaluationPlan, *, units: int) -> None:
    """Refuse a histogram that no honest site would send.

    A cell holds at most every unit the site may have, and noise that passes this bound in any cell
    with probability below 1e-9 (union of Gaussian tails).

    Args:
        histogram: one site's noisy histogram, flat.
        plan: what the site had to release.
        units: the site's declared order of magnitude.

    Raises:
        PeerError: another length, or a cell that is out of bounds.
    """
    if histogram.shape != (2 * plan.bins,):
        raise PeerError(f"the histogram has shape {histogram.shape}; expected ({2 * plan.bins},)")
    tail = math.sqrt(2 * math.log(2 * len(histogram) / _FALSE_ALARM))
    noise = plan.noise_multiplier * tail + 1  # rounded to whole counts
    if not (np.all(histogram >= -noise) and np.all(histogram <= _HALF_AN_ORDER * units + noise)):
        raise PeerError("the histogram has counts that units and noise cannot make")
