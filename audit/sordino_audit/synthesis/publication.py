"""All that leaves of a site's records, made by the product: release, generator file and rows.

`structure.released` stops at the release, and is cheap enough for every self-test; this goes on
through the fit to the rows that a data scientist gets.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sordino_audit.synthesis.structure import Pipeline, Published
from sordino_client.data.cell_encoding import encode_cells
from sordino_client.synthesis.generators.dispatch import generate
from sordino_client.synthesis.measure import measure
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import Noise
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.decoding import decode
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.generator_file import Generator, write_generator
from sordino_protocols.synthesis.mixture_fit import fit_mixture
from sordino_protocols.synthesis.specs import GeneratorSpec, MixtureSpec
from sordino_protocols.synthesis.tables import SiteTable

_SEED = 13
_SITE = "site"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done where only structure is looked at.

    Attributes:
        rows: of a synthetic table.
        components: of a mixture.
        steps: of its fit.
        noise_multiplier: of a release.
    """

    rows: int = 30
    components: int = 4
    steps: int = 20
    noise_multiplier: float = 4.0


def local_pipeline(effort: Effort) -> Pipeline:
    """The mode "local": noisy marginals, a mixture fitted to them, its file and rows of it."""

    def publish(frame: pd.DataFrame, schema: Schema, noise: Noise) -> Published:
        shape = domain_of(schema).shape
        marginals = MixtureSpec().marginals(shape, effort.noise_multiplier)
        counts = measure(encode_cells(frame, schema), marginals, shape=shape, noise=noise)
        rng = np.random.default_rng(_SEED)
        stds = tuple(each.noise_std for each in marginals)
        table = SiteTable(_SITE, shape, marginals, counts.astype(np.float64), stds)
        mixture = fit_mixture([table], components=effort.components, rng=rng, steps=effort.steps)
        generator = Generator(schema, mixture)
        rows = decode(generator.sample(effort.rows, rng=rng), schema, rng=rng)
        return Published(counts, rows, write_generator(generator, run_id="run", job_digest="job"))

    return publish


def table_pipeline(generator: GeneratorSpec, effort: Effort) -> Pipeline:
    """The mode "table": a generator of any kind fits at the site, and its rows are released."""

    def publish(frame: pd.DataFrame, schema: Schema, noise: Noise) -> Published:
        plan = SynthesisPlan(
            generator=generator,
            mode="table",
            shape=domain_of(schema).shape,
            schema_sha256=schema.synthesis_digest(),
            noise_multiplier=effort.noise_multiplier,
            rows=effort.rows,
        )
        rng = np.random.default_rng(_SEED)
        cells = generate(
            plan,
            encode_cells(frame, schema),
            noise=noise,
            performance=Performance(),
            rng=rng,
            schema=schema,
        )
        return Published(cells.ravel(), decode(cells, schema, rng=rng))

    return publish
