"""Start a vault: `python -m sordino_client.vault_process site.toml`.

The network goes first, while the process has one thread and has imported nothing that could use it.
Only where a data set lies in a database or an object store, a reader is started before: it keeps
the network, hands over the declared columns through a pipe, and has ended before the vault serves.
"""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from sordino_client.config import load_config
from sordino_client.isolation import cut_network
from sordino_client.reader import start_reader
from sordino_client.self_test_record import require_self_test
from sordino_protocols.daemons import run_daemon
from sordino_protocols.logs import configure_logging


def main(arguments: Sequence[str]) -> int:
    """Run the vault of the site whose `site.toml` is the only argument, until SIGTERM or SIGINT."""
    usage = "python -m sordino_client.vault_process site.toml"
    return run_daemon(arguments, usage, _serve, component="vault", reads_again=True)


def _serve(path: Path, stop: threading.Event) -> None:
    config = load_config(path)
    configure_logging(level=config.log.level, has_records=True)
    # Before anything is opened, read or started: code that was not tested does none of it.
    require_self_test(config)
    reader = start_reader(config.site.datasets)
    try:
        network_cut_off = config.site.cut_network and cut_network()
        # Not before the network is gone.
        from sordino_client.vault import run_vault  # noqa: PLC0415

        run_vault(config, stop, network_cut_off=network_cut_off, reader=reader)
    finally:
        if reader is not None:
            reader.end()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
