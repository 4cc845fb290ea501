"""`sordino audit`: for the auditor, on the server's host."""

from pathlib import Path
from typing import Annotated

import typer

from sordino_protocols.terminal import Output, note, show, show_object

audit_app = typer.Typer(no_args_is_help=True, help="Attack what was released.")
AUDIT = "audit.json"

RunArgument = Annotated[Path, typer.Argument(help="A run's directory on the server.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]


@audit_app.command("run")
def run(
    run_directory: RunArgument,
    confidence: Annotated[float, typer.Option(help="Of every bound on epsilon.")] = 0.95,
    output: OutputOption = Output.TABLE,
) -> None:
    """Audit a finished run; writes audit.json beside it.

    Exit code 0: nothing found; 9: violation; 10: suspect; 11: inconclusive.
    """
    from sordino_audit.finished_run import audit_run
    from sordino_audit.report import document, plain_verdict, to_json
    from sordino_protocols.errors import NotFoundError
    from sordino_server.runs import RunDirectory, write_whole

    if not run_directory.is_dir():
        raise NotFoundError(f"{run_directory}: no such directory of a run")
    directory = RunDirectory(run_directory.absolute())
    audit = audit_run(directory, confidence=confidence)
    result = document(audit, run_id=directory.run_id)
    write_whole(directory.path / AUDIT, to_json(result).encode())
    if output is Output.JSON:
        show_object(result, output=output)
    else:
        note(plain_verdict(result))
        rows = [dict(each) for each in result["bounds"]]
        show(rows, output=output, title=f"lower bounds on epsilon, claimed {audit.claim.epsilon}")
    raise typer.Exit(audit.exit_code)
