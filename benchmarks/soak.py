"""A long run of many sites with a little of every trouble: what grows, and how fast.

`python -m benchmarks.soak [--json] [--quick] [--real MINUTES]`. 20 sites in memory, 200 rounds, one
process: sites go away and come back, restart, hang, and send what no honest site would. With
`--real` four sites and a server as processes on this machine train instead, one job after the
other, for so many minutes, and every process is looked at.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reporting import Context, Figure, report
from benchmarks.soak_processes import soak_processes
from sordino_protocols.logs import configure_logging

# The federation in memory is test code, and lies where tests are.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from federation import Federation
from soaking import LARGE, SOAK_POLICY, Soaked, soak

from sordino_client.retention import prune
from sordino_client.witness import WitnessStore

SITES, ROUNDS = 20, 200
QUICK_ROUNDS = 30
# A site remembers every entry of its ledger by its hash, and what it charged: a few hundred bytes.
KILOBYTES_BAR = 3.0
LEDGER_BAR = 2_000.0
RUN_BAR = 20_000.0
"""Bytes a round at the server, of 20 sites: what the log says of each, and what its lanes read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds")
    parser.add_argument("--real", type=float, metavar="MINUTES", help="four sites as processes")
    chosen = parser.parse_args(arguments)
    configure_logging(level="error", stream=io.StringIO())
    if chosen.real is not None:
        figures, context = soak_processes(seconds=60 * chosen.real)
    else:
        figures, context = _in_memory(QUICK_ROUNDS if chosen.quick else ROUNDS)
    return report(figures, context, as_json=chosen.json)


def _in_memory(rounds: int) -> tuple[list[Figure], Context]:
    names = tuple(f"site-{number:02d}" for number in range(SITES))
    with tempfile.TemporaryDirectory() as scratch:
        federation = Federation(Path(scratch), names, policy=SOAK_POLICY)
        started = time.monotonic()
        soaked = soak(federation, rounds=rounds, quorum=SITES // 2, model=LARGE)
        seconds = time.monotonic() - started
        figures = _figures(federation, soaked, rounds)
        federation.close()
    context = {
        "sites": SITES,
        "rounds": rounds,
        "seconds": round(seconds, 1),
        "answers": dict(soaked.results),
        "resident MB in the end": round(soaked.kilobytes[-1] / 1024, 1),
    }
    return figures, context


def _figures(federation: Federation, soaked: Soaked, rounds: int) -> list[Figure]:
    answers = rounds * SITES
    releases = sum(soaked.paid.values())
    pruned = sum(
        prune(
            site.outbox,
            WitnessStore(site.directory / "witness"),
            site.ledger.books,
            older_than_seconds=0.0,
            now=time.time() + 1,
        ).freed
        for site in federation.sites.values()
    )
    return [
        Figure("rounds lost", float(rounds - len(soaked.rounds)), 0.0, is_upper_bar=True),
        Figure(
            "answers not accounted for",
            float(answers - sum(soaked.results.values())),
            0.0,
            is_upper_bar=True,
        ),
        Figure(
            "kB of memory a site and round, second half",
            soaked.kilobytes_a_round() / SITES,
            KILOBYTES_BAR,
            is_upper_bar=True,
        ),
        Figure(
            "open files more in the end than after round 1",
            float(soaked.open_files[-1] - soaked.open_files[0]),
            0.0,
            is_upper_bar=True,
        ),
        Figure(
            "bytes of ledger a release",
            soaked.ledger_bytes / releases,
            LEDGER_BAR,
            is_upper_bar=True,
        ),
        Figure(
            "bytes of run directory a round", soaked.run_bytes / rounds, RUN_BAR, is_upper_bar=True
        ),
        Figure("bytes of outbox a release", soaked.outbox_bytes / releases),
        Figure(
            "share of outbox and notes that retention frees",
            pruned / (soaked.outbox_bytes + soaked.witness_bytes),
            0.9,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
