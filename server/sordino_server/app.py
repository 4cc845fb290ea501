"""The Flower server app: one Flower run is one run of ours.

Flower starts it in a process of its own. All it is told is where the run's directory and the
server's configuration are; what it learns goes into the run's directory.
"""

from pathlib import Path

import structlog
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from sordino_protocols.logs import configure_logging
from sordino_protocols.signing import load_signer, load_trust
from sordino_server.config import ServerConfig, load_config
from sordino_server.coordinator import Coordinator
from sordino_server.exchange import Exchange
from sordino_server.heads import HeadStore
from sordino_server.questions import RunFailedError
from sordino_server.runs import RunDirectory
from sordino_server.strategy import Strategy

RUN_DIRECTORY = "sordino-run-directory"
SERVER_CONFIG = "sordino-server-config"
LOG = "log.jsonl"

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Execute one run."""
    config = load_config(Path(str(context.run_config[SERVER_CONFIG])))
    run = RunDirectory(Path(str(context.run_config[RUN_DIRECTORY])))
    with (run.path / LOG).open("a", encoding="utf-8", buffering=1) as log:
        # Flower throws away what a server app prints.
        configure_logging(stream=log)
        _execute(run, config, grid)


def _execute(run: RunDirectory, config: ServerConfig, grid: Grid) -> None:
    signer = load_signer(config.server.signing_key, config.server.name)
    sites = load_trust(config.server.sites)
    heads = HeadStore(config.heads_directory, sites)
    try:
        Coordinator(run, Strategy(Exchange(grid), signer, sites), heads).execute()
    except RunFailedError as error:
        # Known to the run's log already: for Flower the app has done its work.
        structlog.get_logger(component="server").warning("run_failed", reason=str(error))
