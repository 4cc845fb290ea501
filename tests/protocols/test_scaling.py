import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sordino_protocols.errors import InputError
from sordino_protocols.scaling import SCALED_LIMIT, Scaling, scaling_from

any_float = st.floats(allow_nan=False, allow_infinity=False, width=32)
features = arrays(np.float32, (4, 3), elements=st.floats(-1, 1, width=32))


def test_shifts_then_multiplies_then_clips() -> None:
    scaling = Scaling(np.array([0.5, 0.0]), np.array([2.0, 100.0]))
    records = np.array([[1.0, 0.01], [-0.5, 1.0]], dtype=np.float32)
    assert scaling.apply(records).tolist() == [[1.0, 1.0], [-2.0, SCALED_LIMIT]]
    assert records.tolist() == [[1.0, np.float32(0.01)], [-0.5, 1.0]]


@given(
    shift=arrays(np.float64, 3, elements=any_float),
    factor=arrays(np.float64, 3, elements=any_float),
    records=features,
)
def test_any_scaling_leaves_features_finite_and_bounded(
    shift: NDArray[np.float64], factor: NDArray[np.float64], records: NDArray[np.float32]
) -> None:
    scaled = Scaling(shift, factor).apply(records)
    assert scaled.dtype == np.float32
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() <= SCALED_LIMIT
    # A record's features are its own, to the last bit.
    alone = np.concatenate([Scaling(shift, factor).apply(each[np.newaxis]) for each in records])
    assert alone.tobytes() == scaled.tobytes()


@given(
    shift=arrays(np.float64, 3, elements=any_float),
    factor=arrays(np.float64, 3, elements=any_float),
)
def test_it_arrives_as_it_was_sent(shift: NDArray[np.float64], factor: NDArray[np.float64]) -> None:
    read = scaling_from(Scaling(shift, factor).vector())
    assert read.shift.tolist() == shift.tolist()
    assert read.factor.tolist() == factor.tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_numbers_that_single_precision_has_not_are_refused(bad: float) -> None:
    for shift, factor in (([bad], [1.0]), ([0.0], [bad])):
        with pytest.raises(InputError, match="not finite"):
            Scaling(np.array(shift), np.array(factor))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="as many"):
        Scaling(np.zeros(2), np.ones(3))
    with pytest.raises(InputError, match="two values a feature"):
        scaling_from(np.zeros(3, dtype=np.float32))
    with pytest.raises(ValueError, match="expected"):
        Scaling(np.zeros(2), np.ones(2)).apply(np.zeros((1, 3), dtype=np.float32))
