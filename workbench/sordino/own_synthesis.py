"""Synthetic records of a table that one holds oneself: pandas in, pandas out.

The same measuring, noise and fit as at a site, and the same price. What is missing is the site: no
ledger counts what is made here, no policy limits it and no person approves it. So this is for
records that one may publish of, once, at the epsilon that one names; every call is a release of its
own, and two of them cost both.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from sordino.model_files import read_schema
from sordino.synthesis_jobs import completed, unit_of
from sordino.synthetic_frames import frame_of
from sordino_client.data.cell_encoding import encode_cells
from sordino_client.synthesis.measure import measure
from sordino_client.training.noise import SecureNoise
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.job import JobFile, JobSection, PrivacySection
from sordino_protocols.job_sections import SynthesisSection
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.pricing import resolve
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import Cells
from sordino_protocols.synthesis.generator_file import Generator, read_generator
from sordino_protocols.synthesis.mixture_fit import fit_mixture
from sordino_protocols.synthesis.specs import GeneratorSpec, MixtureSpec
from sordino_protocols.synthesis.tables import SiteTable

MIXTURE = MixtureSpec()
OWN = "own"
"""What the one site of a generator is called that was fitted here."""


def synthesize(
    frame: pd.DataFrame,
    schema: Schema | Path | str,
    *,
    epsilon: float,
    delta: float,
    rows: int | None = None,
    generator: GeneratorSpec = MIXTURE,
) -> pd.DataFrame:
    """Synthetic records with the format of `frame`, and about its statistics.

    With a unit column in the schema one record of each entity is used, drawn at random, and the
    guarantee is about entities. No ledger counts this: two calls cost both.

    Args:
        frame: the records, with at least the columns of the schema.
        schema: the public declaration, or its file.
        epsilon: what the records cost a privacy unit, together with `delta`.
        delta: of the guarantee.
        rows: how many; None: as many as there seem to be units.
        generator: how they are made.

    Raises:
        InputError: a record breaks the schema, or no noise reaches the guarantee.
    """
    declared = _schema(schema)
    rng = np.random.default_rng()
    if isinstance(generator, MixtureSpec):
        fitted = fit_generator(
            frame, declared, epsilon=epsilon, delta=delta, components=generator.components
        )
        return sample(fitted, rows)
    # They bring torch, which the default does without.
    from sordino_client.synthesis.generators.dispatch import generate  # noqa: PLC0415
    from sordino_client.training.arithmetic import Performance  # noqa: PLC0415

    plan = _plan(declared, epsilon, delta, generator, rows)
    found = generate(
        plan,
        _cells(frame, declared),
        noise=SecureNoise(),
        performance=Performance(),
        rng=rng,
        schema=declared,
    )
    return frame_of(found, declared, rng=rng)


def fit_generator(
    frame: pd.DataFrame,
    schema: Schema | Path | str,
    *,
    epsilon: float,
    delta: float,
    components: int = MIXTURE.components,
) -> Generator:
    """A generator of any number of records, for one price.

    Args:
        frame: as for `synthesize`, like everything else.
        schema: the public declaration, or its file.
        epsilon: what the generator costs a privacy unit, together with `delta`.
        delta: of the guarantee.
        components: of the mixture.

    Raises:
        InputError: as `synthesize`.
    """
    declared = _schema(schema)
    spec = MIXTURE.model_copy(update={"components": components})
    plan = _plan(declared, epsilon, delta, spec, None)
    cells = _cells(frame, declared)
    counts = measure(cells, plan.marginals, shape=plan.shape, noise=SecureNoise())
    table = SiteTable(
        site=OWN,
        shape=plan.shape,
        marginals=plan.marginals,
        counts=counts.astype(np.float64),
        noise_stds=tuple(each.noise_std for each in plan.marginals),
    )
    mixture = fit_mixture([table], components=components, rng=np.random.default_rng())
    return Generator(declared, mixture)


def sample(
    generator: Generator | Path | str,
    rows: int | None = None,
    *,
    site: str | None = None,
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Records of a fitted generator, which cost nothing more.

    Args:
        generator: fitted here or by a run, or its file.
        rows: how many; None: as many as there seem to be units.
        site: like that site's; None: like those of all sites together.
        rng: of the draw; None: a fresh one.

    Raises:
        NotFoundError: there is no such file, or no such site in the generator.
        InputError: the file is no generator of sordino.
    """
    source = _generator(generator)
    mixture, draw = source.mixture, rng or np.random.default_rng()
    if site is not None and site not in mixture.sites:
        raise NotFoundError(f"no site {site!r} in the generator: {', '.join(mixture.sites)}")
    wanted = _units(source, site) if rows is None else rows
    return frame_of(source.sample(wanted, rng=draw, site=site), source.schema, rng=draw)


def _units(generator: Generator, site: str | None) -> int:
    mixture = generator.mixture
    units = mixture.units if site is None else mixture.units[mixture.sites.index(site)]
    return max(1, round(float(np.sum(units))))


def _generator(source: Generator | Path | str) -> Generator:
    if isinstance(source, Generator):
        return source
    path = Path(source)
    if not path.exists():
        raise NotFoundError(f"{path}: no such file")
    return read_generator(path.read_bytes())


def _schema(schema: Schema | Path | str) -> Schema:
    return schema if isinstance(schema, Schema) else read_schema(Path(schema))


def _plan(
    schema: Schema, epsilon: float, delta: float, generator: GeneratorSpec, rows: int | None
) -> SynthesisPlan:
    name = schema.dataset.name
    is_mixture = isinstance(generator, MixtureSpec)
    file = JobFile(
        job=JobSection(name=name, kind="synthesize", dataset=name),
        privacy=PrivacySection(
            unit=unit_of(schema),
            epsilon=epsilon,
            delta=delta,
        ),
        synthesis=SynthesisSection(
            mode="local" if is_mixture else "table", generator=generator, rows=rows
        ),
    )
    return resolve(completed(file, schema)).plan.require_synthesis()


def _cells(frame: pd.DataFrame, schema: Schema) -> Cells:
    unit = schema.dataset.unit
    if unit is None:
        return encode_cells(frame, schema)
    if unit not in frame.columns:
        raise InputError(f"table: column {unit!r}, the unit, is absent")
    shuffled = frame.iloc[np.random.default_rng().permutation(len(frame))]
    return encode_cells(shuffled.drop_duplicates(unit), schema)
