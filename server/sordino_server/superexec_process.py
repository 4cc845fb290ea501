"""Start Flower's SuperExec: `python -m sordino_server.superexec_process ARGUMENTS`.

All that is ours of it is how it logs: Flower would write coloured text.
"""

from sordino_protocols.logs import configure_logging, log_strays


def main() -> None:
    """Do what `flower-superexec` does, with the same arguments, until it is told to end."""
    from flwr.supercore.cli import flower_superexec  # noqa: PLC0415

    # Not before the import, which sets up Flower's own log.
    configure_logging()
    log_strays("superexec")
    flower_superexec()


if __name__ == "__main__":
    main()
