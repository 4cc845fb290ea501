"""Start a server: `python -m sordino_server.server_process server.toml`."""

import os
import signal
import sys
import threading
from pathlib import Path

from sordino_protocols.errors import ExitCode, SordinoError
from sordino_protocols.flower_environment import environment
from sordino_protocols.logs import configure_logging
from sordino_server.config import load_config


def main(arguments: list[str]) -> int:
    """Run the server whose `server.toml` is the only argument, until SIGTERM or SIGINT."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m sordino_server.server_process server.toml\n")
        return int(ExitCode.USAGE)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    # Before Flower is imported: it reads these once, and phones home without them.
    os.environ.update(environment())
    configure_logging()
    try:
        config = load_config(Path(arguments[0]))
        from sordino_server.daemon import run_server  # noqa: PLC0415

        run_server(config, stop)
    except SordinoError as error:
        sys.stderr.write(f"error: {error}\n")
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
