"""Twenty sites with a little of every trouble: the run ends well, and is paid for as it should be.

`python -m benchmarks.soak` does the same for 200 rounds, and looks at memory.
"""

import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from federation import Federation
from soaking import SOAK_POLICY, Soaked, soak

from sordino_client.retention import prune
from sordino_client.witness import WitnessStore
from sordino_protocols.logs import configure_logging
from sordino_protocols.rounds import RunState

_MEMORY = Path("/dev/shm")  # noqa: S108 (a private directory is made in it)
SITES, ROUNDS, QUORUM = 20, 10, 10


@pytest.fixture(scope="module")
def soaked() -> Iterator[tuple[Federation, Soaked]]:
    configure_logging(level="error", stream=io.StringIO())
    names = tuple(f"site-{number:02d}" for number in range(SITES))
    # In memory: what a disk takes for thousands of flushes is no matter of this test.
    memory = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as scratch:
        federation = Federation(Path(scratch), names, policy=SOAK_POLICY)
        yield federation, soak(federation, rounds=ROUNDS, quorum=QUORUM)
        federation.close()


def test_no_round_is_lost_and_every_answer_is_accounted_for(
    soaked: tuple[Federation, Soaked],
) -> None:
    _, result = soaked
    assert result.run.state() is RunState.DONE
    assert [each["round"] for each in result.rounds] == list(range(1, ROUNDS + 1))
    assert sum(result.results.values()) == SITES * ROUNDS
    # All the troubles were there.
    assert set(result.results) == {"accepted", "unreachable", "late", "norm_exceeded"}


def test_a_site_pays_for_no_more_than_it_was_asked(soaked: tuple[Federation, Soaked]) -> None:
    federation, result = soaked
    for name, paid in result.paid.items():
        site = federation.sites[name]
        site.ledger.verify()
        assert site.held == 0
        assert 0 < paid <= ROUNDS
    # A poisoned answer was paid for, and so was one that came too late for its round.
    accepted, poisoned = result.results["accepted"], result.results["norm_exceeded"]
    assert sum(result.paid.values()) == accepted + poisoned


def test_no_file_stays_open(soaked: tuple[Federation, Soaked]) -> None:
    _, result = soaked
    assert result.open_files[-1] <= result.open_files[1]


def test_disks_fill_by_the_round_and_are_freed_by_retention(
    soaked: tuple[Federation, Soaked],
) -> None:
    federation, result = soaked
    releases = sum(result.paid.values())
    assert result.ledger_bytes / releases < 10_000
    # What each site signed of the run is kept too, once.
    assert result.run_bytes < ROUNDS * 20_000 + SITES * 25_000
    freed = sum(
        prune(
            site.outbox,
            WitnessStore(site.directory / "witness"),
            site.ledger.books,
            older_than_seconds=0,
            now=time.time() + 1,
        ).freed
        for site in federation.sites.values()
    )
    assert freed > 0.4 * (result.outbox_bytes + result.witness_bytes)
