"""The rows that a job trains on, drawn and made into features; and the training.

What must stay true: the model is a function of the job and of the source's files.
"""

import hashlib

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load

from sordino_protocols.job import JobFile
from sordino_protocols.models import FloatVector
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.constraints import is_forbidden
from sordino_protocols.synthesis.features import features_of
from sordino_protocols.synthesis.generator_file import read_generator
from sordino_server.runs import GENERATOR, ROWS, SYNTHESIS, RunDirectory
from sordino_server.synthetic_source import require_synthetic
from sordino_server.synthetic_training import train_on_rows
from sordino_server.table_facts import SynthesisFacts

Rows = npt.NDArray[np.int32]

# Any number is free. Below the first, a small table's own chance would be learnt; above the second
# training takes long and learns nothing more.
_FEWEST_ROWS = 10_000
_MOST_ROWS = 200_000


def train_on_source(source: RunDirectory, file: JobFile, *, job_digest: str) -> FloatVector:
    """The job's model, trained on the pooled synthetic rows of all sites.

    Args:
        source: from `find_source`.
        file: of the job.
        job_digest: of the job: what the rows' and the training's chance is drawn from.

    Raises:
        InputError: the model does not fit the rows, or training diverged.
        IntegrityError: a file of the source cannot be read.
    """
    section, seed = require_synthetic(file), bytes.fromhex(job_digest)
    facts = source.read(SYNTHESIS, SynthesisFacts)
    rng = _public_generator(seed)
    features, labels = features_of(_rows(source, facts, rng=rng), facts.declared, rng=rng)
    return train_on_rows(
        file.require_model(),
        _narrowed(features, facts.declared, file.job.columns),
        labels,
        loss=section.loss,
        epochs=section.epochs,
        learning_rate=section.learning_rate,
        batch_size=section.batch_size,
        seed=seed,
    )


def _rows(source: RunDirectory, facts: SynthesisFacts, *, rng: np.random.Generator) -> Rows:
    """Pooled rows of cells: drawn from the generator, or as the sites made them."""
    if facts.mode == "table":
        tables = load(source.content(ROWS))
        rows = np.concatenate([tables[site] for site in sorted(tables)])
        rows = rows[~is_forbidden(rows, facts.declared)]
        return rows[np.sort(rng.permutation(len(rows))[:_MOST_ROWS])]
    units = round(sum(table.units for table in facts.tables.values()))
    generator = read_generator(source.content(GENERATOR))
    return generator.sample(min(max(units, _FEWEST_ROWS), _MOST_ROWS), rng=rng)


def _narrowed(
    features: npt.NDArray[np.float32], schema: Schema, columns: tuple[str, ...]
) -> npt.NDArray[np.float32]:
    """The features of the columns that the job uses."""
    if not columns:
        return features
    return np.ascontiguousarray(features[:, list(schema.positions(columns))])


def _public_generator(seed: bytes) -> np.random.Generator:
    digest = hashlib.sha256(b"sordino/synthetic-rows/1\n" + seed).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
