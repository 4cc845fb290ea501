"""The Flower server app: one Flower run is one run of ours.

Flower starts it in a process of its own. All it is told is the run's id and where the server's
configuration is; what it learns goes into the run's directory.
"""

import datetime as dt
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType

import structlog
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from sordino_protocols.audit_log import AuditLog
from sordino_protocols.logs import configure_logging, fields_of, log_strays
from sordino_protocols.signing import load_signer
from sordino_server.config import ServerConfig, load_config
from sordino_server.coordinator import Coordinator
from sordino_server.decisions import Decisions
from sordino_server.exchange import Exchange
from sordino_server.questions import RunFailedError
from sordino_server.runs import RunDirectory
from sordino_server.state_location import heads_in, open_state, runs_in
from sordino_server.storage import Storage
from sordino_server.strategy import Strategy
from sordino_server.trust import live_trust

RUN_ID = "sordino-run-id"
SERVER_CONFIG = "sordino-server-config"
LOG = "log.jsonl"

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Execute one run."""
    config = load_config(Path(str(context.run_config[SERVER_CONFIG])))
    state = open_state(config)
    run = runs_in(state).get(str(context.run_config[RUN_ID]))
    with run.open_text(LOG) as log:
        # Flower throws away what a server app prints, and what it says itself of one that raises.
        configure_logging(level=config.log.level, stream=log)
        log_strays("server")
        with ExitStack() as stack:
            stack.push(partial(_say_why, run.run_id))
            _execute(run, state, config, grid)


def _say_why(
    run_id: str,
    _kind: type[BaseException] | None,
    error: BaseException | None,
    _trace: TracebackType | None,
) -> None:
    """Tell the run's log of what ends the app, while there is a log to write to."""
    if error is not None:
        log = structlog.get_logger(component="server", run_id=run_id)
        log.error("server_app_failed", **fields_of(error))


def _execute(run: RunDirectory, state: Storage, config: ServerConfig, grid: Grid) -> None:
    signer = load_signer(config.server.signing_key, config.server.name)
    sites = live_trust(config.server.sites)
    audit_log = AuditLog(config.audit_log_path, now=lambda: dt.datetime.now(dt.UTC))
    heads = heads_in(state, sites.with_revoked(), audit_log=audit_log)
    try:
        strategy, decisions = Strategy(Exchange(grid), signer, sites), Decisions(audit_log)
        Coordinator(run, strategy, heads, decisions=decisions).execute()
    except RunFailedError as error:
        # Known to the run's log already: for Flower the app has done its work.
        structlog.get_logger(component="server").warning("run_failed", reason=str(error))
