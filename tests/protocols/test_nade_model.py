"""The model kind "nade": its layout, its bounds, and that it is a distribution."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_stacks import SPECS
from pydantic import ValidationError

from sordino_protocols.cells import (
    CausalSum,
    CellEmbedding,
    CellLayout,
    CellLikelihood,
    CellLinear,
)
from sordino_protocols.errors import InputError
from sordino_protocols.models import (
    NadeModelSpec,
    architecture_of,
    initial_weights,
    parameter_count,
    parameter_groups,
)
from sordino_protocols.networks import build, flatten, load_flat

CELLS = (2, 3, 2, 4)
SPEC = NadeModelSpec(kind="nade", hidden=5, cells=CELLS)
ANY_CELLS = st.lists(st.integers(1, 6), min_size=1, max_size=8).map(tuple)


def trained(spec: NadeModelSpec = SPEC) -> torch.nn.Module:
    module = build(spec, 1)
    load_flat(module, np.random.default_rng(1).normal(size=parameter_count(spec, 1)))
    return module


def test_is_read_from_a_job_and_written_again() -> None:
    spec = SPECS.validate_json('{"kind": "nade", "hidden": 5, "cells": [2, 3, 2, 4]}')
    assert spec == SPEC
    assert SPECS.validate_json(SPECS.dump_json(spec)) == spec
    assert "outputs" not in SPEC.model_dump()


@pytest.mark.parametrize(
    "raw",
    [
        {"kind": "nade", "cells": []},
        {"kind": "nade", "cells": [0]},
        {"kind": "nade", "cells": [2.0]},
        {"kind": "nade", "cells": [2], "hidden": 0},
        {"kind": "nade", "cells": [2], "outputs": 1},
        {"kind": "nade", "cells": [2] * 5_000},
        {"kind": "nade"},
    ],
)
def test_refuses_what_is_no_such_model(raw: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SPECS.validate_python(raw)


def test_refuses_a_model_that_is_too_large() -> None:
    spec = NadeModelSpec(kind="nade", hidden=4_096, cells=(1_000,))
    with pytest.raises(InputError, match=r"model\.nade: .*parameters are allowed"):
        architecture_of(spec, 1)


@given(cells=ANY_CELLS)
def test_every_cell_of_every_position_has_a_place_of_its_own(cells: tuple[int, ...]) -> None:
    layout = CellLayout(cells)
    places = [
        start + cell
        for start, width in zip(layout.starts(), cells, strict=True)
        for cell in range(width)
    ]
    assert sorted(places) == list(range(layout.total))
    assert sorted(layout.order()) == list(range(len(cells)))
    assert layout.blocks()[-1].stop == layout.total


@given(cells=ANY_CELLS)
def test_the_flat_vector_is_that_of_the_module(cells: tuple[int, ...]) -> None:
    spec = NadeModelSpec(kind="nade", hidden=3, cells=cells)
    module, weights = build(spec, 7), initial_weights(spec, 7, seed=b"job")
    assert len(weights) == sum(cells) * 7
    load_flat(module, weights)
    assert np.array_equal(flatten(module), weights)
    assert parameter_groups(spec) == len(
        {step.path for step in architecture_of(spec, 7).steps if step.parameters}
    )


def test_the_probabilities_of_all_records_add_up_to_one() -> None:
    everything = torch.tensor(list(itertools.product(*map(range, CELLS))), dtype=torch.float64)
    logs = trained()(everything)
    assert logs.shape == (len(everything), len(CELLS))
    assert torch.isclose(logs.sum(dim=1).exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    # A sum without the cells before would not: the first position does not know the others.
    assert len(torch.unique(logs[:, 0].round(decimals=12))) == CELLS[0]


def test_a_position_depends_on_those_before_it_and_on_none_behind() -> None:
    module = trained()
    record = torch.zeros(1, len(CELLS), dtype=torch.float64)
    for changed in range(len(CELLS)):
        other = record.clone()
        other[0, changed] = 1
        differs = (module(record) != module(other))[0].tolist()
        assert differs == [False] * changed + [True] * (len(CELLS) - changed)


def test_starts_with_every_cell_as_likely() -> None:
    module = build(SPEC, 1)
    load_flat(module, initial_weights(SPEC, 1, seed=b"job"))
    found = module(torch.zeros(1, len(CELLS), dtype=torch.float64))
    assert np.allclose(found.detach().numpy(), -np.log(CELLS))


def test_a_record_is_seen_alone() -> None:
    module = trained()
    rng = np.random.default_rng(2)
    records = torch.from_numpy(rng.integers(0, CELLS, (6, len(CELLS)))).double()
    together = module(records)
    alone = torch.cat([module(record[None]) for record in records])
    assert torch.allclose(together, alone)


def test_operations_refuse_shapes_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"expects \[4\] cells a record; \[3\] arrived"):
        CellEmbedding(kind="cell_embedding", cells=CELLS, width=2).output_shape((3,))
    with pytest.raises(InputError, match=r"\[positions, features\]"):
        CausalSum(kind="causal_sum").output_shape((4,))
    with pytest.raises(InputError, match=r"expects \[4\] cells a record"):
        CellLinear(kind="cell_linear", cells=CELLS).output_shape((3, 5))
    with pytest.raises(InputError, match=r"expects \[11\] logits; \[10\] arrived"):
        CellLikelihood(kind="cell_likelihood", cells=CELLS).output_shape(((10,), (4,)))
