"""Start a link: `python -m sordino_client.link_process site.toml`."""

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from sordino_client.config import load_config
from sordino_protocols.daemons import run_daemon
from sordino_protocols.flower_environment import environment


def main(arguments: Sequence[str]) -> int:
    """Run the link of the site whose `site.toml` is the only argument, until SIGTERM or SIGINT."""
    return run_daemon(arguments, "python -m sordino_client.link_process site.toml", _serve)


def _serve(path: Path, stop: threading.Event) -> None:
    config = load_config(path)
    # Before Flower is imported: it reads these once, and phones home without them.
    os.environ.update(environment())
    from sordino_client.link import LinkSettings, run_link  # noqa: PLC0415

    settings = LinkSettings(
        site=config.site.name,
        server_address=config.link.server,
        ca_certificate=config.link.ca_certificate,
        node_key=config.link.node_key,
        vault_socket=config.site.socket,
        metrics_address=config.link.metrics,
    )
    run_link(settings, stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
