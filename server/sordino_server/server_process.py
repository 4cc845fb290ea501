"""Start a server: `python -m sordino_server.server_process server.toml`."""

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from sordino_protocols.daemons import run_daemon
from sordino_protocols.flower_environment import environment
from sordino_protocols.logs import configure_logging
from sordino_server.config import load_config


def main(arguments: Sequence[str]) -> int:
    """Run the server whose `server.toml` is the only argument, until SIGTERM or SIGINT."""
    usage = "python -m sordino_server.server_process server.toml"
    return run_daemon(arguments, usage, _serve, component="server", reads_again=True)


def _serve(path: Path, stop: threading.Event) -> None:
    config = load_config(path)
    # Before Flower is imported: it reads these once, and phones home without them.
    os.environ.update(environment())
    from sordino_server.daemon import run_server  # noqa: PLC0415

    # Not before the import, with which Flower sets up its own log.
    configure_logging(level=config.log.level)
    run_server(config, stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
