"""`sordino audit`: for the auditor, on the server's host."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.errors import ExitCode, InputError, IntegrityError, NotFoundError
from sordino_protocols.terminal import Output, note, show, show_object

if TYPE_CHECKING:
    from sordino_audit.findings import Finding
    from sordino_server.runs import RunDirectory

audit_app = typer.Typer(no_args_is_help=True, help="Attack what was released.")
AUDIT = "audit.json"
HEADS = "audit-heads.json"

RunArgument = Annotated[Path, typer.Argument(help="A run's directory on the server.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]
HeadsOption = Annotated[
    Path | None,
    typer.Option(help="Where ledger heads are remembered; default: beside the runs."),
]


@audit_app.command("run")
def run(
    run_directory: RunArgument,
    confidence: Annotated[float, typer.Option(help="Of every bound on epsilon.")] = 0.95,
    heads: HeadsOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Audit a finished run; writes audit.json beside it.

    Exit code 0: nothing found; 8: a site's ledger contradicts what was seen of it before; 9:
    violation; 10: suspect; 11: inconclusive.
    """
    from sordino_audit.finished_run import audit_run
    from sordino_audit.report import document, plain_verdict, to_json
    from sordino_server.runs import RunDirectory, write_whole

    if not run_directory.is_dir():
        raise NotFoundError(f"{run_directory}: no such directory of a run")
    directory = RunDirectory(run_directory.absolute())
    ledgers = _remember(directory, heads or directory.path.parent / HEADS)
    try:
        audit = audit_run(directory, confidence=confidence, known=ledgers)
    except InputError:
        if ledgers:
            raise IntegrityError(ledgers[0].message) from None
        raise
    result = document(audit, run_id=directory.run_id)
    write_whole(directory.path / AUDIT, to_json(result).encode())
    if output is Output.JSON:
        show_object(result, output=output)
    else:
        note(plain_verdict(result))
        rows = [dict(each) for each in result["bounds"]]
        show(rows, output=output, title=f"lower bounds on epsilon, claimed {audit.claim.epsilon}")
    raise typer.Exit(ExitCode.INTEGRITY if ledgers else audit.exit_code)


def _remember(run: "RunDirectory", path: Path) -> "list[Finding]":
    """Compare a run's signed ledger heads with those of all runs audited before."""
    from sordino_audit.heads import remember_heads
    from sordino_protocols.certificate import read_certificate
    from sordino_server.runs import CERTIFICATE

    certificate = run.path / CERTIFICATE
    if not certificate.exists():
        note("note: the run has no certificate, so no ledger heads are remembered")
        return []
    findings = remember_heads(
        path, read_certificate(certificate.read_bytes()), created=run.manifest().created
    )
    for finding in findings:
        note(f"{finding.severity.value}: {finding.message}")
    return findings
