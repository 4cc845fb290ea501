"""Trials on public or synthetic records: the real engine and the real noise, and no site asked.

The records are cut into equal parts that play the sites. Whoever runs this sees exact metrics and
chooses by them, so the records must be public or synthetic: on private ones every trial would be an
unpaid release.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sordino.baselines import SiteRecords, federate, measure_task, with_statistics
from sordino.model_files import read_declaration
from sordino.tuning import Outcome, over_repeats
from sordino.tuning_settings import Trial
from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import DatasetFile
from sordino_client.data.sources import CsvSource, ParquetSource
from sordino_client.data.table import Table
from sordino_client.mechanisms import Engine
from sordino_client.suitability import unsuitable
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import Noise
from sordino_protocols.errors import InputError
from sordino_protocols.job import Job
from sordino_protocols.optimizer import SgldOptimizer
from sordino_protocols.pricing import price, resolve
from sordino_protocols.schema import Schema
from sordino_server.langevin import check_temperature

Progress = Callable[[str], None]
Sites = Mapping[str, SiteRecords]
_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True, slots=True)
class Simulation:
    """How trials are run.

    Attributes:
        sites: equal parts that play the sites.
        repeats: runs of each trial, each on a split of its own.
        seed: of the splits, the same for every trial. Never of the noise.
    """

    sites: int
    repeats: int
    seed: int


@dataclass(frozen=True, slots=True)
class PublicData:
    """Records that anybody may look at, and what is declared of them."""

    schema: Schema
    table: Table

    @property
    def unit_count(self) -> int:
        """Privacy units: entities, or records."""
        entities = self.table.entities
        return len(self.table.labels) if entities is None else len(entities)


def load_public(dataset: Path, data: Path) -> PublicData:
    """Read the records as a site would.

    Args:
        dataset: the data set's TOML file, with or without a `[source]`.
        data: a CSV or Parquet file that takes the place of the source's.

    Raises:
        NotFoundError: a file is missing.
        InputError: names file, key or column, and what was expected.
    """
    declared = read_declaration(dataset)
    table = load_table(
        DatasetFile(
            dataset=declared.dataset,
            columns=declared.columns,
            roles=declared.roles,
            source=_source(declared, data.absolute()),
        )
    )
    return PublicData(declared, table)


def _source(declared: Schema | DatasetFile, path: Path) -> CsvSource | ParquetSource:
    if path.suffix.lower() in _PARQUET:
        return ParquetSource(kind="parquet", path=path)
    if isinstance(declared, DatasetFile) and isinstance(declared.source, CsvSource):
        # What a missing cell looks like is the same here.
        return declared.source.model_copy(update={"path": path})
    return CsvSource(kind="csv", path=path)


def check_job(job: Job, schema: Schema, *, noise: Noise, source: str) -> None:
    """Refuse a job that no site with this data set would take, before anything is run.

    Raises:
        InputError: names the rule, what the job asks, and what the data set needs.
    """
    if job.file.loss == "likelihood":
        raise InputError(f"{source}: a model of whole records is judged by what is sampled from it")
    if job.file.job.dataset != schema.dataset.name:
        name = job.file.job.dataset
        raise InputError(f"{source}: job.dataset is {name!r}, not {schema.dataset.name!r}")
    decision = unsuitable(job, schema, Engine(noise, Performance()))
    if decision is not None:
        raise InputError(
            f"{source}: every site would refuse it by {decision.rule}: asked is {decision.asked};"
            f" allowed is {decision.allowed}"
        )


def try_all(
    trials: Sequence[Trial],
    data: PublicData,
    simulation: Simulation,
    *,
    noise: Noise,
    progress: Progress,
) -> tuple[Outcome, ...]:
    """Run every trial on every split.

    Args:
        trials: at least one.
        data: public records.
        simulation: sites, repeats and seed.
        noise: `SecureNoise`: trials have the noise that the job would have.
        progress: told what is being done.

    Raises:
        InputError: a trial does not fit the data set, no noise reaches its guarantee, or there are
            too few units.
    """
    # All of them first: a trial that cannot be run must not cost hours before it says so.
    jobs = [resolve(trial.file) for trial in trials]
    for trial, job in zip(trials, jobs, strict=True):
        check_job(job, data.schema, noise=noise, source=trial.source)
    splits = [_split(data, simulation, repeat) for repeat in range(simulation.repeats)]
    for trial, job in zip(trials, jobs, strict=True):
        _check_temperature(job, splits[0], source=trial.source)
    outcomes = []
    for trial, job in zip(trials, jobs, strict=True):
        progress(f"trial {trial.number} of {len(trials)}")
        outcomes.append(_try(trial, job, data.schema, splits, noise=noise))
    return tuple(outcomes)


def _try(
    trial: Trial,
    job: Job,
    schema: Schema,
    splits: Sequence[Sites],
    *,
    noise: Noise,
) -> Outcome:
    spec, loss = job.file.require_model(), job.file.loss
    measured: dict[str, list[float]] = {}
    for split in splits:
        sites = with_statistics(split, job, schema, noise=noise)
        weights = federate(sites, job, noise=noise)
        for name, value in asdict(measure_task(weights, spec, sites, loss=loss)).items():
            # Errors are told in the label's units; all else has none.
            unit = schema.label_scale if loss == "squared" else 1.0
            measured.setdefault(name, []).append(value * unit)
    metrics = {name: over_repeats(values) for name, values in measured.items()}
    noise_multiplier = job.plan.require_training().noise_multiplier
    return Outcome(trial, price(job).epsilon_pld, noise_multiplier, metrics)


def _check_temperature(job: Job, sites: Sites, *, source: str) -> None:
    """As the server does before a run: the parts are as small as the smallest cohort."""
    optimizer, plan = job.file.require_optimizer(), job.plan.require_training()
    units = [site.order_of_magnitude for site in sites.values()]
    if isinstance(optimizer, SgldOptimizer):
        try:
            check_temperature(optimizer, plan, units=units, quorum=len(units))
        except InputError as error:
            raise InputError(f"{source}: {error}") from None


def _split(data: PublicData, simulation: Simulation, repeat: int) -> Sites:
    """One part a site and one held out, of the units in an order that only the seed decides."""
    count = data.unit_count
    order = np.random.default_rng((simulation.seed, repeat)).permutation(count)
    held_out_count = round(data.schema.dataset.holdout_fraction * count)
    held_out = _part(data.table, order[:held_out_count], count)
    parts = np.array_split(order[held_out_count:], simulation.sites)
    if held_out_count == 0 or len(parts[-1]) == 0:
        raise InputError(f"too few records for {simulation.sites} sites and a held-out part")
    # Measured once: the first site holds what all are measured on.
    nothing = _part(data.table, order[:0], count)
    return {
        f"site-{index}": SiteRecords(
            _part(data.table, part, count), held_out if index == 1 else nothing, len(part)
        )
        for index, part in enumerate(parts, start=1)
    }


def _part(table: Table, units: NDArray[np.int64], count: int) -> Table:
    chosen = np.zeros(count, dtype=np.bool_)
    chosen[units] = True
    if table.entities is None:
        return Table(table.features[chosen], table.labels[chosen])
    rows = table.entities.rows_of(chosen)
    return Table(table.features[rows], table.labels[rows], table.entities.only(chosen))
