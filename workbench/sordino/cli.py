"""The `sordino` command: one front door for data scientist, site admin, operator and auditor."""

import datetime as dt
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from sordino.audit_log_cli import audit_log_app
from sordino.cert_cli import cert_app
from sordino.config_cli import config_app, paths
from sordino.count_cli import count
from sordino.dataset_cli import dataset_app
from sordino.doctor_cli import doctor
from sordino.job_cli import job_app
from sordino.model_cli import model_app
from sordino.sample_cli import sample_app
from sordino.synth_cli import synth_app
from sordino_audit.cli import audit_app
from sordino_client.approval_cli import approval_app
from sordino_client.cli import DEFAULT_CONFIG as SITE_CONFIG
from sordino_client.cli import ConfigOption, site_app
from sordino_client.ledger_cli import budget_app, ledger_app
from sordino_client.policy_cli import audit_log, policy_app
from sordino_deploy.pki_cli import pki_app
from sordino_deploy.setup_cli import server_init, site_enroll, site_init, site_trust
from sordino_protocols.errors import SordinoError
from sordino_protocols.terminal import SetOption, complain, run_command
from sordino_server.cli import server_app

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Federated learning across sites that keep their records.",
)
app.add_typer(job_app, name="job")
app.add_typer(model_app, name="model")
app.add_typer(sample_app, name="sample")
app.add_typer(synth_app, name="synth")
app.command("count")(count)
app.add_typer(dataset_app, name="dataset")
app.add_typer(site_app, name="site")
app.add_typer(policy_app, name="policy")
app.add_typer(approval_app, name="approval")
app.add_typer(budget_app, name="budget")
app.add_typer(ledger_app, name="ledger")
app.add_typer(server_app, name="server")
app.add_typer(pki_app, name="pki")
app.add_typer(audit_app, name="audit")
app.add_typer(cert_app, name="cert")
app.add_typer(audit_log_app, name="audit-log")
app.add_typer(config_app, name="config")
app.command("paths")(paths)
app.command("doctor")(doctor)
site_app.command("audit-log")(audit_log)
site_app.command("init")(site_init)
site_app.command("enroll")(site_enroll)
site_app.command("trust")(site_trust)
server_app.command("init")(server_init)


@app.command("demo")
def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="A folder with your own CSV files, one a site, and a schema."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where everything goes; must be empty or absent.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    keep: Annotated[bool, typer.Option(help="Leave the federation running.")] = False,
) -> None:
    """Run a whole federation on this machine: real processes, real records, an audited model."""
    started = time.monotonic()
    from sordino.demo import DemoOptions, run_demo

    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%d-%H%M%S")
    directory = out or Path("sordino-demo") / stamp
    options = DemoOptions(out=directory, data=data, as_json=as_json, keep=keep)
    run_demo(options, started=started)


@site_app.command("run")
def site_run(config: ConfigOption = SITE_CONFIG, settings: SetOption = None) -> None:
    """Run vault and link, and restart what ends."""
    from sordino_deploy.site_runner import run_site
    from sordino_protocols.configuration import settings_environment

    os.environ.update(settings_environment("site", settings or ()))
    run_site(config)


@app.callback(invoke_without_command=True)
def root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    quiet: Annotated[  # noqa: ARG001 - `terminal.is_quiet` asks click for it
        bool, typer.Option("--quiet", help="Say nothing but results and errors.")
    ] = False,
) -> None:
    """Federated learning across sites that keep their records."""
    if show_version:
        sys.stdout.write(f"sordino {version('sordino')}\n")
        raise typer.Exit


def main() -> None:
    """Run the command line, and turn what goes wrong into a message and an exit code."""
    sys.exit(run_command(_run))


def _run() -> int:
    try:
        result = app(standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        # Click's own errors (usage, missing files) print themselves and know their exit code.
        if isinstance(error, SordinoError) or not hasattr(error, "exit_code"):
            raise
        complain(f"error[E{error.exit_code:02d}00]: {error}")
        return int(error.exit_code)
    return result if isinstance(result, int) else 0
