"""The file of a fitted generator: the mixture, and the schema that says what its cells mean.

safetensors holds arrays and text alone; nothing is unpickled. Who has the file draws any number of
rows, anywhere, for free.
"""

import json
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT
from sordino_protocols.schema import Schema
from sordino_protocols.signing import canonical_json
from sordino_protocols.synthesis.constraints import obeying
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.mixture import Mixture

Cells = npt.NDArray[np.int32]

_FORMAT: Final = "sordino/mixture/1"
_KEY = "sordino"
_TENSORS = ("units", "weights", "cells", "fine")


@dataclass(frozen=True, slots=True, eq=False)
class Generator:
    """A fitted mixture with the meaning of its cells.

    Attributes:
        schema: the public declaration, of the columns that the job named.
        mixture: of that schema's shape.
    """

    schema: Schema
    mixture: Mixture

    def __post_init__(self) -> None:
        if domain_of(self.schema).shape != self.mixture.shape:
            raise InputError("the generator's schema has another shape than its mixture")

    def sample(self, rows: int, *, rng: np.random.Generator, site: str | None = None) -> Cells:
        """Rows of cells that obey the schema's constraints, [rows, positions].

        Args:
            rows: how many.
            rng: draws them.
            site: as one site's records; None: as all sites' together.

        Raises:
            InputError: the generator knows no such site, or the constraints leave nothing.
        """

        def draw(count: int) -> Cells:
            return self.mixture.sample(count, rng=rng, site=site)

        return obeying(draw, self.schema, rows=rows)


def write_generator(generator: Generator, *, run_id: str, job_digest: str) -> bytes:
    """The file's content.

    Args:
        generator: what to write.
        run_id: of the run that paid for it.
        job_digest: of that run's job.
    """
    mixture = generator.mixture
    tensors = {
        "units": mixture.units,
        "weights": mixture.weights,
        "cells": np.ascontiguousarray(mixture.cells),
        "fine": mixture.fine,
    }
    facts = _Facts(
        format=_FORMAT,
        run_id=run_id,
        job_digest=job_digest,
        schema=generator.schema,
        sites=mixture.sites,
    )
    # Under one key, since safetensors writes several in no order: the same file each time.
    text = canonical_json(facts.model_dump(mode="json", by_alias=True)).decode("utf-8")
    return bytes(save(tensors, metadata={_KEY: text}))


def read_generator(content: bytes) -> Generator:
    """Read a file's content.

    Raises:
        InputError: it is no generator that was written here.
    """
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = _Facts.model_validate_json(header["__metadata__"][_KEY], strict=True)
    except (SafetensorError, ValueError, KeyError):
        raise InputError("this is no generator file of sordino") from None
    if set(tensors) != set(_TENSORS) or any(each.dtype != np.float64 for each in tensors.values()):
        raise InputError(f"a generator file has the float64 tensors {', '.join(_TENSORS)}")
    mixture = Mixture(domain_of(facts.schema_).shape, facts.sites, **tensors)
    return Generator(facts.schema_, mixture)


class _Facts(BaseModel):
    """What a file says of itself."""

    model_config = STRICT

    format: Literal["sordino/mixture/1"]
    run_id: str
    job_digest: str
    schema_: Schema = Field(alias="schema")
    sites: tuple[str, ...]
