"""How often a site's vault ended without a word: killed, crashed, or out of power.

Two small files in the site's state directory: one is there while a vault runs, and who finds it at
the start knows that the last one did not end as it should. The count only grows. Whoever restarts
the vault (systemd, our own keeper, a person) need not take part.
"""

from pathlib import Path

from sordino_client.outbox import write_durably
from sordino_protocols.errors import IntegrityError

_RUNNING = "vault.running"
_COUNT = "vault.restarts"


def note_start(state: Path) -> None:
    """Note that a vault begins; counts one more restart if the last one never said its end.

    Raises:
        IntegrityError: the count cannot be read.
    """
    running = state / _RUNNING
    if running.exists():
        write_durably(state / _COUNT, f"{read_restarts(state) + 1}\n".encode())
    else:
        write_durably(running, b"")


def note_end(state: Path) -> None:
    """Note that a vault ends because it was told to."""
    (state / _RUNNING).unlink(missing_ok=True)


def read_restarts(state: Path) -> int:
    """How often a vault of this site was started after one that did not say its end.

    Raises:
        IntegrityError: the count cannot be read.
    """
    path = state / _COUNT
    try:
        return int(path.read_bytes())
    except FileNotFoundError:
        return 0
    except ValueError:
        raise IntegrityError(f"{path}: expected a number; remove it to count from 0") from None
