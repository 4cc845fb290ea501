"""Where synthetic records come from, as a command line names it: a run or a file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sordino.run_watching import connected
from sordino.synthetic_release import SyntheticRelease, fetch_release
from sordino_client.data.cell_encoding import encode_cells
from sordino_client.data.suggestion import read_records
from sordino_protocols.errors import InputError
from sordino_protocols.privacy import Guarantee
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import Cells
from sordino_protocols.synthesis.generator_file import Generator, read_generator

_TABLES = frozenset({".csv", ".parquet", ".pq"})


@dataclass(frozen=True, slots=True)
class Source:
    """A run's release, a generator, or rows that somebody has.

    Attributes:
        name: as it was given.
        held: what it is.
    """

    name: str
    held: SyntheticRelease | Generator | pd.DataFrame

    @property
    def dataset(self) -> str:
        """Of which data set it is.

        Raises:
            InputError: rows do not say.
        """
        match self.held:
            case SyntheticRelease() | Generator() as held:
                return held.schema.dataset.name
            case _:
                raise InputError(f"{self.name}: rows do not say of which data set: use --data")

    @property
    def guarantee(self) -> Guarantee | None:
        """What a site's release costs; None where nobody says."""
        if isinstance(self.held, SyntheticRelease):
            facts = self.held.facts
            return Guarantee(facts.epsilon_without_masks, facts.delta)
        return None

    def cells_for(self, schema: Schema, rows: int, *, rng: np.random.Generator) -> Cells:
        """Synthetic records as cells of a schema: about so many, or all that there are.

        Raises:
            InputError: the records are of another schema.
        """
        match self.held:
            case SyntheticRelease() as release:
                _require_same(release.schema, schema, self.name)
                wanted = rows if release.generator is not None else None
                return release.cells(wanted, rng=rng)
            case Generator() as generator:
                _require_same(generator.schema, schema, self.name)
                return generator.sample(rows, rng=rng)
            case frame:
                return encode_cells(frame, schema, source=self.name)


def open_source(name: str, profile: Path | None) -> Source:
    """Open a file if there is one of this name, else a run of one's own.

    Raises:
        NotFoundError: there is neither.
        InputError: the file is no generator and no table, or the run synthesized nothing.
    """
    path = Path(name)
    if not path.exists():
        with connected(profile) as connection:
            return Source(name, fetch_release(connection, name))
    if path.suffix.lower() in _TABLES:
        return Source(name, read_records(path))
    return Source(name, read_generator(path.read_bytes()))


def _require_same(synthetic: Schema, real: Schema, name: str) -> None:
    if synthetic.synthesis_digest() != real.synthesis_digest():
        raise InputError(f"{name}: made by another schema than that of the real records")
