"""Start a link: `python -m sordino_client.link_process site.toml`."""

import signal
import sys
import threading
from pathlib import Path

from sordino_client.config import load_config
from sordino_client.link import LinkSettings, run_link
from sordino_protocols.errors import ExitCode, SordinoError
from sordino_protocols.logs import configure_logging


def main(arguments: list[str]) -> int:
    """Run the link of the site whose `site.toml` is the only argument, until SIGTERM or SIGINT."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m sordino_client.link_process site.toml\n")
        return int(ExitCode.USAGE)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    configure_logging()
    try:
        config = load_config(Path(arguments[0]))
        settings = LinkSettings(
            site=config.site.name,
            server_address=config.link.server,
            ca_certificate=config.link.ca_certificate,
            node_key=config.link.node_key,
            vault_socket=config.site.socket,
            metrics_address=config.link.metrics,
        )
        run_link(settings, stop)
    except SordinoError as error:
        sys.stderr.write(f"error: {error}\n")
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
