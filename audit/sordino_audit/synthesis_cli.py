"""`sordino audit synthesis`: attacks on the code that makes a job's synthetic records."""

from pathlib import Path
from typing import Annotated

import typer

from sordino_audit.report_output import (
    ConfigOption,
    HtmlOption,
    OutputOption,
    ReportsOption,
    tell_document,
    write_page,
)
from sordino_protocols.terminal import Output


def synthesis(
    job: Annotated[
        Path, typer.Argument(help="A synthesize job's TOML, or a run's directory on the server.")
    ],
    *,
    schema: Annotated[
        Path | None,
        typer.Option(help="A dataset.toml; records are made up from it. Default: the run's."),
    ] = None,
    releases: Annotated[
        int,
        typer.Option(
            help="Synthetic tables, with a target and as many without, for the attack on rows.",
            min=0,
        ),
    ] = 0,
    records: Annotated[int, typer.Option(help="Made-up records of a table.", min=20)] = 400,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn but the noise.")] = 1,
    html: HtmlOption = None,
    reports: ReportsOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Attack the code that makes a job's synthetic records, with records that are made up.

    JOB is a job's TOML file with --schema, or the directory of a run at the server. The release of
    marginals is attacked with worst-case canaries at the job's own noise; what leaves must not show
    a constant column, a missing cell or a rare word; rows are attacked if --releases says how
    often. Exit codes as `sordino audit run`.
    """
    from sordino_audit.audit_code import synthesized
    from sordino_audit.audit_config import load_config
    from sordino_audit.synthesis.reading import read_subject
    from sordino_audit.synthesis.result import SynthesisDesign

    settings = load_config(config, reports=reports)
    design = SynthesisDesign(
        shadows=-(-releases // 2),
        judged=-(-releases // 2),
        records=records,
        confidence=settings.confidence,
        seed=seed,
    )
    made = synthesized(read_subject(job, schema=schema), design, settings)
    write_page(made.document, html)
    tell_document(made.document, output)
    raise typer.Exit(made.exit_code)
