"""Numbers on the encoder's scale: from a column's public bounds to [-1, 1]."""

import numpy as np
import numpy.typing as npt

from sordino_protocols.columns import IntegerColumn, NumberColumn, VectorColumn

Floats = npt.NDArray[np.float64]


def on_scale(numbers: Floats, column: IntegerColumn | NumberColumn) -> Floats:
    """From [min, max] to [-1, 1], by the column's scale; NaN stays."""
    if column.scale == "linear":
        return linear(numbers, column)
    above, width = np.log1p(numbers - column.min), float(np.log1p(_width(column)))
    return np.clip(2.0 * (above / width) - 1.0, -1.0, 1.0)


def linear(numbers: Floats, column: IntegerColumn | NumberColumn | VectorColumn) -> Floats:
    """From [min, max] to [-1, 1]; NaN stays."""
    return np.clip(2.0 * ((numbers - column.min) / _width(column)) - 1.0, -1.0, 1.0)


def _width(column: IntegerColumn | NumberColumn | VectorColumn) -> float:
    return float(column.max) - float(column.min)
