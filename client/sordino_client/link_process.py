"""Start a link: `python -m sordino_client.link_process site.toml`."""

import os
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog

from sordino_client.config import SiteConfig, load_config
from sordino_protocols.daemons import call_on_hangup, run_daemon
from sordino_protocols.errors import SordinoError
from sordino_protocols.flower_environment import environment
from sordino_protocols.logs import configure_logging


def main(arguments: Sequence[str]) -> int:
    """Run the link of the site whose `site.toml` is the only argument, until SIGTERM or SIGINT."""
    usage = "python -m sordino_client.link_process site.toml"
    return run_daemon(arguments, usage, _serve, component="link", reads_again=True)


def _serve(path: Path, stop: threading.Event) -> None:
    config = load_config(path)
    # Before Flower is imported: it reads these once, and phones home without them.
    os.environ.update(environment())
    from sordino_client.link import LinkSettings, run_link  # noqa: PLC0415

    # Not before the import, with which Flower sets up its own log.
    configure_logging(level=config.log.level)
    call_on_hangup(partial(_reload, config))
    settings = LinkSettings(
        site=config.site.name,
        server_address=config.link.server,
        ca_certificate=config.link.ca_certificate,
        node_key=config.link.node_key,
        vault_socket=config.site.socket,
        certificate=config.link.certificate,
        private_key=config.link.private_key,
        metrics_address=config.link.metrics,
    )
    run_link(settings, stop)


def _reload(config: SiteConfig) -> None:
    """Log as much as the file says now; certificates are looked at before each request anyway."""
    log = structlog.get_logger(component="link", site=config.site.name)
    try:
        configure_logging(level=load_config(config.path).log.level)
    except (SordinoError, OSError):
        log.exception("kept_the_old_configuration")
    else:
        log.info("reloaded")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
