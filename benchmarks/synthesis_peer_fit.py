"""Run by another Python, which has the package `mbi`: fits the same noisy tables as we do.

`python benchmarks/synthesis_peer_fit.py IN.npz OUT.npz`. IN holds the number of cells of each
column, the columns of each noisy table (-1 for none), the tables one after another, the standard
deviation of each one's noise, how many records they seem to be of, which tables make a tree, and
components and steps of a mixture. OUT gets a table of synthetic rows for each way of fitting, and
its CPU seconds on one core: of a second fit, so that what was compiled before is not counted.

Nothing of sordino is imported here.
"""

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int32]
Given = dict[str, npt.NDArray[np.float64]]


class Columns(Protocol):
    """Synthetic records of the package: `data` has an array of cells a column."""

    data: dict[str, npt.NDArray[np.int64]]


class Model(Protocol):
    """What the package fits."""

    def synthetic_data(self, rows: int) -> Columns:
        """Sample records."""


class Estimator(Protocol):
    """How the package fits."""

    def estimate(
        self, domain: object, measurements: object, *, known_total: float, iters: int
    ) -> Model:
        """Fit a model to noisy tables."""


def main(source: Path, target: Path) -> None:
    """Fit in both ways, each twice."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with np.load(source) as file:
        given = {name: np.asarray(file[name], dtype=np.float64) for name in file.files}
    tables = {"mixture": range(len(given["stds"])), "tree": given["tree"].astype(int).tolist()}
    results = dict[str, npt.NDArray[np.generic]]()
    for name, chosen in tables.items():
        estimator, marks = _estimator(name, given), [time.process_time()]
        for _ in range(2):
            results[name] = _rows(estimator, given, chosen)
            marks.append(time.process_time())
        results[f"{name}_seconds"] = np.diff(marks)
    np.savez(target, **results)  # type: ignore[arg-type]


def _estimator(name: str, given: Given) -> Estimator:
    """Its mixture of products with our steps; or its default, mirror descent, as in its MST."""
    import optax  # type: ignore[import-not-found]  # noqa: PLC0415  # only the peer has it
    from mbi.estimation import MirrorDescent  # type: ignore[import-not-found]  # noqa: PLC0415
    from mbi.extensions import (  # type: ignore[import-not-found]  # noqa: PLC0415
        MixtureOfProductsEstimator,
    )

    found: Estimator = MirrorDescent()
    if name == "mixture":
        components = int(given["components"])
        found = MixtureOfProductsEstimator(optimizer=optax.adam(0.1), num_components=components)
    return found


def _rows(estimator: Estimator, given: Given, chosen: Iterable[int]) -> Rows:
    from mbi import Domain, LinearMeasurement  # type: ignore[import-not-found]  # noqa: PLC0415

    sizes = given["sizes"].astype(int).tolist()
    names = [f"c{column}" for column in range(len(sizes))]
    tables = [
        [int(column) for column in columns if column >= 0] for columns in given["columns"].tolist()
    ]
    ends = np.cumsum([np.prod([sizes[column] for column in each]) for each in tables]).tolist()
    measurements = [
        LinearMeasurement(
            given["counts"][end - int(np.prod([sizes[column] for column in tables[index]])) : end],
            tuple(names[column] for column in tables[index]),
            float(given["stds"][index]),
        )
        for index, end in enumerate(ends)
        if index in set(chosen)
    ]
    total = float(given["total"])
    model = estimator.estimate(
        Domain(names, sizes), measurements, known_total=total, iters=int(given["steps"])
    )
    data = model.synthetic_data(round(total)).data
    return np.stack([data[name] for name in names], axis=1).astype(np.int32)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
