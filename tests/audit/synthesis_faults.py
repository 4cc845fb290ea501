"""Faults planted in code that releases marginals, and in all that goes before and after it.

Each is the product's own code with one thing wrong, as it was seen in libraries or is easily done.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from seeded_noise import SeededNoise

from sordino_audit.synthesis.structure import Pipeline, Published, released
from sordino_audit.synthesis.subject import Asked, Release, Released, measured
from sordino_client.training.noise import Noise
from sordino_protocols.schema import Schema


def _quieter(asked: Asked, factor: float) -> Asked:
    marginals = tuple(replace(each, noise_std=factor * each.noise_std) for each in asked.marginals)
    return replace(asked, marginals=marginals)


def a_tenth_less_noise(asked: Asked) -> Released:
    return measured(_quieter(asked, 0.9))


def a_sensitivity_of_two(asked: Asked) -> Released:
    """As when every record is joined with two rows of another table."""
    return measured(replace(asked, cells=np.repeat(asked.cells, 2, axis=0)))


def one_seed_for_all(asked: Asked) -> Released:
    return measured(replace(asked, noise=SeededNoise(7)))


def the_raw_number_of_units(asked: Asked) -> Released:
    """In the last count, where a count of missing cells stands."""
    made = measured(asked)
    made[-1] = len(asked.cells)
    return made


def one_number_more(asked: Asked) -> Released:
    return np.append(measured(asked), np.int32(len(asked.cells)))


def no_noise_on_zeros(asked: Asked) -> Released:
    """Keeps empty cells empty, as sparse tables do."""
    made = measured(asked)
    exact = measured(replace(asked, noise=_Silent()))
    return np.where(exact == 0, 0, made).astype(np.int32)


def noise_by_the_number_of_units(asked: Asked) -> Released:
    return measured(_quieter(asked, 1 / (1 + 0.1 * (len(asked.cells) > 10))))


def the_first_noise_again(asked: Asked) -> Released:
    """All marginals of one size share their noise."""
    drawn: dict[int, np.ndarray] = {}
    parts = []
    for marginal in asked.marginals:
        alone = replace(asked, marginals=(marginal,))
        exact = measured(replace(alone, noise=_Silent()))
        noise = drawn.setdefault(marginal.cells, measured(alone) - exact)
        parts.append(exact + noise)
    return np.concatenate(parts).astype(np.int32)


def a_pair_without_noise(asked: Asked) -> Released:
    silenced = replace(asked, marginals=asked.marginals[-1:], noise=_Silent())
    last = measured(silenced)
    made = measured(asked)
    made[-len(last) :] = last
    return made


class _Silent(SeededNoise):
    def __init__(self) -> None:
        super().__init__(0)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> np.ndarray:
        del noise_std
        return np.zeros(count, dtype=np.int64)


RELEASES: dict[str, Release] = {
    "a tenth less noise": a_tenth_less_noise,
    "a sensitivity of two": a_sensitivity_of_two,
    "one seed for all releases": one_seed_for_all,
    "the raw number of units": the_raw_number_of_units,
    "one number more": one_number_more,
    "no noise on zeros": no_noise_on_zeros,
    "noise by the number of units": noise_by_the_number_of_units,
    "the first marginal's noise again": the_first_noise_again,
    "a pair without noise": a_pair_without_noise,
}
"""Faults of releases."""


def drops_constant_columns(frame: pd.DataFrame, schema: Schema, noise: Noise) -> Published:
    kept = [
        name
        for name, _ in schema.features
        if name not in frame or len(set(frame[name].astype(str))) > 1
    ]
    return released(frame, schema.narrowed(kept), noise)


def adds_a_cell_for_nulls(frame: pd.DataFrame, schema: Schema, noise: Noise) -> Published:
    """Looks at the data for whether a cell for the missing is needed."""
    made = released(frame, schema, noise)
    has_nulls = bool(frame[list(schema.source_names())].isna().to_numpy().any())
    return replace(made, numbers=np.append(made.numbers, np.zeros(int(has_nulls), dtype=np.int32)))


def takes_words_from_the_data(frame: pd.DataFrame, schema: Schema, noise: Noise) -> Published:
    made = released(frame, schema, noise)
    words: list[object] = [str(each) for each in frame["work"].dropna().unique()]
    return replace(made, rows={"work": words})


def tells_the_number_of_rows(frame: pd.DataFrame, schema: Schema, noise: Noise) -> Published:
    made = released(frame, schema, noise)
    return replace(made, rows={"sex": ["male"] * len(frame)})


def fills_with_a_real_value(frame: pd.DataFrame, schema: Schema, noise: Noise) -> Published:
    made = released(frame, schema, noise)
    first: object = frame["work"].iloc[0] if len(frame) else "none"
    return replace(made, rows={"work": [first or "none"]})


PIPELINES: dict[str, Pipeline] = {
    "drops constant columns": drops_constant_columns,
    "adds a cell for nulls": adds_a_cell_for_nulls,
    "takes words from the data": takes_words_from_the_data,
    "tells the number of rows": tells_the_number_of_rows,
    "fills with a real value": fills_with_a_real_value,
}
"""Faults of structure."""
