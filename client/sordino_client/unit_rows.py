"""One record of each privacy unit: what counts and marginals are made of."""

import numpy as np
import numpy.typing as npt

from sordino_client.data.table import Table
from sordino_client.training.noise import Noise
from sordino_client.training.sampling import draw_rows


def one_row_a_unit(table: Table, noise: Noise) -> npt.NDArray[np.int64]:
    """Every record; or of every entity one, each of its records as likely."""
    if table.entities is None:
        return np.arange(len(table.labels))
    everybody = np.arange(len(table.entities))
    return draw_rows(table.entities, everybody, at_most=1, noise=noise)[:, 0]
