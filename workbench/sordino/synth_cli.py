"""`sordino synth`: synthesize, fit, sample and report; and `sordino sample get`, the short way."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.errors import InputError
from sordino_protocols.terminal import note

if TYPE_CHECKING:
    import pandas as pd

    from sordino.synthetic_release import SyntheticRelease


class Mode(StrEnum):
    """What the sites of a synthesis release."""

    LOCAL = "local"
    SUM = "sum"
    TABLE = "table"


synth_app = typer.Typer(no_args_is_help=True, help="Synthesize records: fit, sample, report.")

ProfileOption = Annotated[
    Path | None, typer.Option("--profile", "-p", help="Your profile.", envvar="SORDINO_PROFILE")
]
RowsOption = Annotated[
    int | None, typer.Option("--rows", min=1, help="How many; else about as many as are real.")
]
SiteOption = Annotated[str | None, typer.Option(help="Like this site's; else like all together.")]
OutOption = Annotated[Path, typer.Option("-o", "--out", help="A new file.")]


@synth_app.command("fit")
def fit(
    run_id: Annotated[
        str | None, typer.Argument(help="A synthesis, to be fitted again, for free.")
    ] = None,
    *,
    out: OutOption,
    components: Annotated[int, typer.Option(min=1, help="Of the mixture.")] = 300,
    data: Annotated[Path | None, typer.Option(help="Your own records: CSV or Parquet.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="Their data set's TOML file.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="What the fit may cost a unit.")] = None,
    delta: Annotated[float | None, typer.Option(help="The same.")] = None,
    profile: ProfileOption = None,
) -> None:
    """Fit a generator: to what a run released, or with --data to records of your own.

    Own records are measured with noise, like a site's, and no ledger counts it.
    """
    from sordino_protocols.files import write_public

    _require_new(out)
    if run_id is not None and data is None:
        content = _fitted_again(run_id, components, profile)
    elif data is not None and dataset and epsilon and delta and run_id is None:
        content = _fitted_to(data, dataset, (epsilon, delta), components)
    else:
        raise InputError("name a run, or give --data, --dataset, --epsilon and --delta")
    write_public(out, content)
    note(f"the generator is {out}; `sordino synth sample` draws from it, for free")


@synth_app.command("sample")
def sample(
    source: Annotated[str, typer.Argument(help="A generator's file, or a run's id.")],
    *,
    out: OutOption,
    rows: RowsOption = None,
    site: SiteOption = None,
    profile: ProfileOption = None,
) -> None:
    """Draw records, as CSV or Parquet. Free: what they are drawn from was paid for.

    The run is a synthesis, or one that trained a model of kind "nade".
    """
    from sordino.own_synthesis import sample as drawn
    from sordino.synthetic_frames import check_writable, write_frame

    check_writable(out)
    if Path(source).exists():
        frame = drawn(Path(source), rows, site=site)
    else:
        frame = _of_run(source, rows, site, profile)
    write_frame(frame, out)
    note(f"{len(frame)} rows in {out}")


@synth_app.command("report")
def report(
    source: Annotated[str, typer.Argument(help="A run's id; with --data also a file.")],
    *,
    out: OutOption,
    evaluation: Annotated[
        str | None, typer.Option(help="A run that trained on it: what a model learns from it.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The site's site.toml: compare with its own records.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Or real records: CSV or Parquet.")] = None,
    held_out: Annotated[Path | None, typer.Option(help="And others, unseen by it.")] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="The data set's TOML file of --data.")
    ] = None,
    profile: ProfileOption = None,
) -> None:
    """Write a page about a synthesis.

    Without real records it shows what was released alone, and anybody may see it. With --config or
    --data it compares with real records, exactly: such a page must stay with them. SOURCE may then
    also be a generator's file, or a CSV or Parquet file of synthetic records.
    """
    _require_new(out)
    if config is None and (data is None) != (dataset is None):
        raise InputError("--data and --dataset go together: the records, and what they are")
    if config is None and data is None:
        _report_to_all(source, evaluation, out, profile)
    else:
        _report_locally(source, out, profile, config=config, files=(data, dataset, held_out))


@synth_app.command("submit")
def submit(
    dataset: Annotated[str, typer.Argument(help="By its name at the sites.")],
    *,
    epsilon: Annotated[float, typer.Option(help="What it may cost a unit at a site.")],
    delta: Annotated[float, typer.Option(help="The same.")],
    mode: Annotated[Mode, typer.Option(help="What the sites release.")] = Mode.LOCAL,
    generator: Annotated[
        str, typer.Option(help="mixture; in mode table also mst, privbayes, nade or vae.")
    ] = "mixture",
    silent: Annotated[int, typer.Option(min=0, help="Of a sum: sites that may be silent.")] = 0,
    rows: Annotated[int | None, typer.Option(min=1, help="Of a table: rows a site.")] = None,
    sites: Annotated[str, typer.Option(help="Names with commas between; else all.")] = "",
    quorum: Annotated[int | None, typer.Option(min=1, help="How many sites must answer.")] = None,
    profile: ProfileOption = None,
    watch: Annotated[bool, typer.Option(help="Watch the run until it is over.")] = False,
) -> None:
    """Sign a synthesis and queue it; prints the run's id. `sordino job submit` takes a file."""
    from sordino.run_watching import connected, watch_run
    from sordino.schema_inquiry import inquire
    from sordino.synthesis_jobs import Wish, wished_job
    from sordino_protocols.pricing import resolve

    wish = Wish(
        dataset=dataset,
        epsilon=epsilon,
        delta=delta,
        mode=mode.value,
        generator=generator,
        silent=silent,
        rows=rows,
        sites=tuple(each.strip() for each in sites.split(",") if each.strip()),
        quorum=quorum,
    )
    with connected(profile) as connection:
        facts = inquire(connection, dataset, sites=wish.sites)
        run_id = connection.submit(resolve(wished_job(wish, facts.sites, facts.schema)))
        sys.stdout.write(f"{run_id}\n")
        if watch:
            raise typer.Exit(watch_run(connection, run_id))


def _fitted_again(run_id: str, components: int, profile: Path | None) -> bytes:
    import numpy as np

    from sordino_protocols.synthesis.generator_file import Generator, write_generator
    from sordino_protocols.synthesis.mixture_fit import fit_mixture

    release = _release(run_id, profile)
    tables = release.site_tables()
    if not tables:
        raise InputError(f"run {run_id} released rows, not tables: nothing can be fitted")
    mixture = fit_mixture(tables, components=components, rng=np.random.default_rng())
    fitted = Generator(release.schema, mixture)
    return write_generator(fitted, run_id=run_id, job_digest=release.job.digest())


def _fitted_to(data: Path, dataset: Path, promise: tuple[float, float], components: int) -> bytes:
    from sordino.own_synthesis import fit_generator
    from sordino_client.data.suggestion import read_records
    from sordino_protocols.synthesis.generator_file import write_generator

    note(f"no ledger counts this: whatever else is made of {data} costs on top of it")
    epsilon, delta = promise
    fitted = fit_generator(
        read_records(data), dataset, epsilon=epsilon, delta=delta, components=components
    )
    return write_generator(fitted, run_id="", job_digest="")


def _report_to_all(run_id: str, evaluation: str | None, out: Path, profile: Path | None) -> None:
    from sordino.run_watching import connected
    from sordino.shared_report import render
    from sordino.synthetic_release import fetch_release
    from sordino_protocols.files import write_public
    from sordino_server.runs import STATEMENT
    from sordino_server.statement import Statement

    with connected(profile) as connection:
        release = fetch_release(connection, run_id)
        statement = None
        if evaluation is not None:
            statement = Statement.model_validate_json(connection.fetch(evaluation, STATEMENT))
    write_public(out, render(release, evaluation=statement).encode())
    note(f"the page is {out}; it shows nothing that was not released")


def _report_locally(
    source: str,
    out: Path,
    profile: Path | None,
    *,
    config: Path | None,
    files: tuple[Path | None, Path | None, Path | None],
) -> None:
    import numpy as np

    from sordino.local_figures import compare
    from sordino.local_report import render
    from sordino.real_records import records_of_files, records_of_site
    from sordino.synthetic_source import open_source
    from sordino_protocols.files import write_secret

    rng = np.random.default_rng()
    rows = open_source(source, profile)
    data, dataset, held_out = files
    if config is not None:
        real = records_of_site(config, rows.dataset)
    elif data is not None and dataset is not None:
        real = records_of_files(data, dataset, held_out, rng=rng)
    else:
        raise AssertionError("the options were checked before")
    cells = rows.cells_for(real.schema, len(real.members.cells), rng=rng)
    figures = compare(real, cells, guarantee=rows.guarantee, rng=rng)
    write_secret(out, render(figures, source=source).encode())
    note(f"the page is {out}: exact, so keep it where the records are")


def _of_run(
    run_id: str, rows: int | None, site: str | None, profile: Path | None
) -> "pd.DataFrame":
    import numpy as np

    from sordino.run_watching import connected
    from sordino.synthetic_release import fetch_release
    from sordino.trained_records import fetch_records, is_of_records

    rng = np.random.default_rng()
    with connected(profile) as connection:
        if not is_of_records(connection, run_id):
            return fetch_release(connection, run_id).frame(rows, rng=rng, site=site)
        if rows is None or site is not None:
            raise InputError("a trained network knows no number of records, and no site: --rows")
        return fetch_records(connection, run_id, rows, rng=rng)


def _release(run_id: str, profile: Path | None) -> "SyntheticRelease":
    from sordino.run_watching import connected
    from sordino.synthetic_release import fetch_release

    with connected(profile) as connection:
        return fetch_release(connection, run_id)


def _require_new(path: Path) -> None:
    if path.exists():
        raise InputError(f"{path}: exists already; move it away first")
