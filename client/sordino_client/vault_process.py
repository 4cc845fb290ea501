"""Start a vault: `python -m sordino_client.vault_process site.toml`.

The network goes first, while the process has one thread and has imported nothing that could use it.
"""

import signal
import sys
import threading
from pathlib import Path

from sordino_client.config import load_config
from sordino_client.isolation import cut_network
from sordino_protocols.errors import ExitCode, SordinoError
from sordino_protocols.logs import configure_logging


def main(arguments: list[str]) -> int:
    """Run the vault of the site whose `site.toml` is the only argument, until SIGTERM or SIGINT."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m sordino_client.vault_process site.toml\n")
        return int(ExitCode.USAGE)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    configure_logging()
    try:
        config = load_config(Path(arguments[0]))
        network_cut_off = config.site.cut_network and cut_network()
        # Not before the network is gone.
        from sordino_client.vault import run_vault  # noqa: PLC0415

        run_vault(config, stop, network_cut_off=network_cut_off)
    except SordinoError as error:
        sys.stderr.write(f"error: {error}\n")
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
