"""Records drawn from a trained network: the format of the schema, and its constraints."""

import numpy as np
import pytest
from plausible_synthesis import SCHEMA

from sordino.trained_records import draw_records
from sordino_protocols.errors import InputError
from sordino_protocols.model_file import ReleasedModel
from sordino_protocols.models import initial_weights
from sordino_protocols.nade import NadeModelSpec
from sordino_protocols.schema_sections import Constraint
from sordino_protocols.synthesis.domain import domain_of

# Age, cost, ill, four towers, ward: coarse where there are many.
SPEC = NadeModelSpec(kind="nade", hidden=4, cells=(16, 17, 2, 2, 2, 2, 2, 4))


@pytest.fixture(scope="module")
def model() -> ReleasedModel:
    weights = initial_weights(SPEC, len(SPEC.cells), seed=b"test")
    return ReleasedModel(weights, None)


def test_draws_cells_of_the_schema(model: ReleasedModel) -> None:
    cells = draw_records(model, SPEC, SCHEMA, 300, rng=np.random.default_rng(0))
    shape = domain_of(SCHEMA).shape
    assert cells.shape == (300, shape.position_count)
    assert (cells >= 0).all()
    assert cells[:, 0].max() < 100
    # No record was near more towers than it may.
    assert cells[:, 3:7].sum(axis=1).max() <= 2


def test_obeys_constraints(model: ReleasedModel) -> None:
    never = Constraint.model_validate({"never": {"ward": "north"}})
    schema = SCHEMA.model_copy(update={"constraints": (never,)})
    free = draw_records(model, SPEC, SCHEMA, 300, rng=np.random.default_rng(0))
    bound = draw_records(model, SPEC, schema, 300, rng=np.random.default_rng(0))
    assert (free[:, -1] == 0).any()
    assert not (bound[:, -1] == 0).any()


def test_refuses_a_network_of_other_cells(model: ReleasedModel) -> None:
    spec = SPEC.model_copy(update={"cells": (*SPEC.cells[:-1], 9)})
    with pytest.raises(InputError, match=r"cells\[7\]"):
        draw_records(model, spec, SCHEMA, 10, rng=np.random.default_rng(0))
