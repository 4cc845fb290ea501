"""Broken commitments are violations."""

from sordino_audit.findings import Severity
from sordino_audit.reveals import Reveal, check_reveal
from sordino_protocols import coins

SALT = bytes(range(coins.SALT_BYTES))
COINS = (True, False, True)


def test_kept_commitments_are_silent_and_broken_ones_are_violations() -> None:
    commitment = coins.commit(COINS, salt=SALT, run_id="run-1", site="north")
    assert check_reveal(Reveal("north", COINS, SALT), commitment, run_id="run-1") is None
    finding = check_reveal(Reveal("north", (False, *COINS[1:]), SALT), commitment, run_id="run-1")
    assert finding is not None
    assert finding.severity is Severity.VIOLATION
    assert "north" in finding.message
