"""Records drawn from a network of whole records that a federation has trained over rounds."""

import numpy as np
import pandas as pd

from sordino.connection import Connection
from sordino.schema_inquiry import inquire
from sordino.synthetic_frames import frame_of
from sordino_protocols.errors import InputError
from sordino_protocols.job import Job
from sordino_protocols.model_file import ReleasedModel, read_model
from sordino_protocols.nade import NadeModelSpec
from sordino_protocols.schema import Schema
from sordino_protocols.signing import canonical_json
from sordino_protocols.synthesis.constraints import obeying
from sordino_protocols.synthesis.domain import Cells, domain_of
from sordino_protocols.synthesis.nade import check_cells, sample_nade
from sordino_protocols.synthesis.positions import within_sets
from sordino_server.runs import MODEL


def is_of_records(connection: Connection, run_id: str) -> bool:
    """Whether a run trained a network that records can be drawn from.

    Raises:
        NotFoundError: there is no such run of yours.
    """
    return isinstance(_job(connection, run_id).file.model, NadeModelSpec)


def fetch_records(
    connection: Connection, run_id: str, rows: int, *, rng: np.random.Generator
) -> pd.DataFrame:
    """Draw records from a run's network; the sites say for free what its cells mean.

    Args:
        connection: to the server.
        run_id: of a finished run with a model of kind "nade".
        rows: how many.
        rng: draws them.

    Raises:
        NotFoundError: the run has no model yet.
        InputError: its model is none of records, or the data set's schema has changed since.
        ViolationError: the run is in quarantine.
    """
    file = _job(connection, run_id).file
    if not isinstance(file.model, NadeModelSpec):
        raise InputError(f"run {run_id} has no model that records can be drawn from")
    model = read_model(connection.fetch(run_id, MODEL))
    facts = inquire(connection, file.job.dataset, sites=file.cohort.sites)
    cells = draw_records(model, file.model, facts.schema, rows, rng=rng)
    return frame_of(cells, facts.schema, rng=rng)


def draw_records(
    model: ReleasedModel,
    spec: NadeModelSpec,
    schema: Schema,
    rows: int,
    *,
    rng: np.random.Generator,
) -> Cells:
    """Rows of cells that obey the schema's constraints and hold no more words than sets may.

    Args:
        model: what was trained.
        spec: of the model.
        schema: of the records.
        rows: how many.
        rng: draws them.

    Raises:
        InputError: the model's cells are not those of the schema.
    """
    shape = domain_of(schema).shape
    check_cells(spec, shape)

    def draw(count: int) -> Cells:
        drawn = sample_nade(model.weights, spec, shape, count, rng=rng)
        return within_sets(drawn, shape, rng=rng)

    return obeying(draw, schema, rows=rows)


def _job(connection: Connection, run_id: str) -> Job:
    return Job.model_validate_json(canonical_json(connection.show(run_id)["job"]))
