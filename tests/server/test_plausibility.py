"""What an honest site can send is believed, at its most extreme; what it cannot is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_client.evaluation import exact_table, noisy_table
from sordino_client.statistics import noisy_statistics
from sordino_client.training.noise import SecureNoise
from sordino_protocols.errors import PeerError
from sordino_protocols.plan import EvaluationPlan, StatisticsPlan
from sordino_server.plausibility import check_histogram, check_statistics

UNITS = 50
EVALUATIONS = [
    EvaluationPlan("binary", bins=10, classes=1, noise_multiplier=8.0),
    EvaluationPlan("cross_entropy", bins=10, classes=4, noise_multiplier=8.0),
    EvaluationPlan("squared", bins=20, classes=1, noise_multiplier=8.0),
]
STATISTICS = [
    StatisticsPlan("moments", bins=32, noise_multiplier=3.0),
    StatisticsPlan("quantiles", bins=8, noise_multiplier=3.0),
]
ALL = np.ones(3, dtype=np.bool_)


@pytest.mark.parametrize("plan", EVALUATIONS)
@given(units=st.integers(0, 3 * UNITS), output=st.floats(-9, 9))
def test_every_honest_table_is_believed(plan: EvaluationPlan, units: int, output: float) -> None:
    outputs, labels = np.full((units, plan.classes), output), np.ones(units, dtype=np.float32)
    table = noisy_table(exact_table(outputs, labels, plan), plan, noise=SecureNoise())
    check_histogram(table.ravel(), plan, units=UNITS)


@pytest.mark.parametrize("plan", STATISTICS)
@given(units=st.integers(0, 3 * UNITS), feature=st.floats(-1, 1, width=32))
def test_all_honest_statistics_are_believed(
    plan: StatisticsPlan, units: int, feature: float
) -> None:
    features = np.full((units, 3), feature, dtype=np.float32)
    released = noisy_statistics(features, np.arange(units), plan, measured=ALL, noise=SecureNoise())
    check_statistics(released, plan, features=3, units=UNITS)


@pytest.mark.parametrize("plan", EVALUATIONS)
@pytest.mark.parametrize("value", [-1e3, 1e3, 1e30])
def test_a_cell_that_cannot_be_is_refused(plan: EvaluationPlan, value: float) -> None:
    table = np.zeros(plan.shape).ravel()
    check_histogram(table, plan, units=UNITS)
    table[-1] = value
    with pytest.raises(PeerError, match="cannot make"):
        check_histogram(table, plan, units=UNITS)
    with pytest.raises(PeerError, match="shape"):
        check_histogram(table[1:], plan, units=UNITS)


@pytest.mark.parametrize("plan", STATISTICS)
@pytest.mark.parametrize("value", [-1e3, 1e3, 1e30])
def test_a_sum_that_cannot_be_is_refused(plan: StatisticsPlan, value: float) -> None:
    length = 7 if plan.kind == "moments" else 24
    vector = np.zeros(length)
    check_statistics(vector, plan, features=3, units=UNITS)
    for place in (0, -1):
        changed = vector.copy()
        changed[place] = value
        with pytest.raises(PeerError, match="cannot make"):
            check_statistics(changed, plan, features=3, units=UNITS)
    with pytest.raises(PeerError, match="shape"):
        check_statistics(vector[1:], plan, features=3, units=UNITS)


def test_sums_may_be_negative_and_sums_of_squares_may_not() -> None:
    plan = STATISTICS[0]
    sums = np.array([-100.0, -100, -100, 100, 100, 100, 100])
    check_statistics(sums, plan, features=3, units=UNITS)
    with pytest.raises(PeerError, match="cannot make"):
        check_statistics(-sums, plan, features=3, units=UNITS)
