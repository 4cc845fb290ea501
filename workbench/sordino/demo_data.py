"""What a demo federates: the four hospitals, or a folder of somebody's own files.

A folder holds one CSV file a site, `dataset.toml` with the public schema (or `<site>.toml` for a
site that declares its own) and, if wanted, `job.toml`; without one the demo's own recipe is fitted
to the schema. In `dataset.toml`, `$site` stands for the site's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from sordino import heart
from sordino.built_in_job import built_in_job_text, hospitals_job_text
from sordino_client.data.declaration import DatasetFile
from sordino_client.data.sources import CsvSource
from sordino_deploy.local import LocalSite
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.files import parse_toml, read_text
from sordino_protocols.job import JobFile
from sordino_protocols.schema import Schema
from sordino_protocols.signing import check_name

_POLICY = Template("""\
# What this site allows; see the README for every key.
[datasets.$dataset]
submitters = ["scientist"]
kinds = ["train", "synthesize"]
models = ["logistic", "mlp", "cnn", "resnet", "lstm", "gru", "transformer", "layers", "graph"]
max_epsilon = 4.0
max_delta = 1e-5
max_rounds = 200
min_expected_batch = 20

[budgets.$dataset]
epsilon = 12.0
delta = 1e-5
""")


@dataclass(frozen=True, slots=True)
class DemoData:
    """Sites with their files, and the job that they are asked to run.

    Attributes:
        sites: as the local federation wants them.
        job: the job.
        job_text: its file's text, for the reader to change and submit again.
    """

    sites: tuple[LocalSite, ...]
    job: JobFile
    job_text: str

    @property
    def schema(self) -> Schema:
        """What the first site declares a record to be; whether the others agree, servers check."""
        return _declared(self.sites[0].dataset, self.sites[0].name).public


def hospitals(scratch: Path) -> DemoData:
    """The four hospitals of the heart disease data, written into `scratch` first."""
    sites = []
    for name in heart.ORDERS_OF_MAGNITUDE:
        declaration = heart.write_dataset(name, scratch / name)
        sites.append(_site(name, read_text(declaration), scratch / name / f"{name}.csv"))
    return DemoData(tuple(sites), *_job(hospitals_job_text(), "job.toml", sites))


def own_data(folder: Path) -> DemoData:
    """Somebody's own sites.

    Raises:
        NotFoundError: the folder, a schema or every CSV file is missing.
        InputError: a schema or the job is wrong; names file, key and what was expected.
    """
    tables = sorted(folder.glob("*.csv"))
    if len(tables) < 2:  # noqa: PLR2004
        raise NotFoundError(f"{folder}: needs one CSV file a site, and at least two sites")
    sites = []
    for table in tables:
        name = check_name(table.stem)
        own = folder / f"{name}.toml"
        text = read_text(own if own.exists() else folder / "dataset.toml")
        sites.append(_site(name, Template(text).safe_substitute(site=name), table))
    job = folder / "job.toml"
    if job.exists():
        return DemoData(tuple(sites), *_job(read_text(job), str(job), sites))
    text = built_in_job_text([_declared(site.dataset, site.name).public for site in sites])
    return DemoData(tuple(sites), *_job(text, "job.toml", sites))


def _site(name: str, dataset: str, table: Path) -> LocalSite:
    declared = _declared(dataset, name)
    path = declared.source.path if isinstance(declared.source, CsvSource) else None
    if path is None or path.name != table.name:
        raise InputError(
            f'{name}: the data set\'s [source] must be kind = "csv", path = "{table.name}"'
        )
    policy = _POLICY.substitute(dataset=declared.dataset.name)
    return LocalSite(name, dataset, table, policy)


def _declared(dataset: str, name: str) -> DatasetFile:
    return parse_toml(dataset, DatasetFile, source=f"{name}: dataset.toml")


def _job(text: str, source: str, sites: Sequence[LocalSite]) -> tuple[JobFile, str]:
    job = parse_toml(text, JobFile, source=source)
    for site in sites:
        declared = _declared(site.dataset, site.name).dataset.name
        if declared != job.job.dataset:
            raise InputError(
                f"{source}: job.dataset is {job.job.dataset!r}, {site.name} has {declared!r}"
            )
    return job, text
