"""Start a vault: `python -m sordino_client.vault_process site.toml`.

The network goes first, while the process has one thread and has imported nothing that could use it.
"""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from sordino_client.config import load_config
from sordino_client.isolation import cut_network
from sordino_protocols.daemons import run_daemon


def main(arguments: Sequence[str]) -> int:
    """Run the vault of the site whose `site.toml` is the only argument, until SIGTERM or SIGINT."""
    return run_daemon(arguments, "python -m sordino_client.vault_process site.toml", _serve)


def _serve(path: Path, stop: threading.Event) -> None:
    config = load_config(path)
    network_cut_off = config.site.cut_network and cut_network()
    # Not before the network is gone.
    from sordino_client.vault import run_vault  # noqa: PLC0415

    run_vault(config, stop, network_cut_off=network_cut_off)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
