"""What the ledger's promise costs, and whether it holds: time, epsilon, kills and hostile messages.

`python -m benchmarks.ledger [--json] [--quick] [--messages N]`. A ledger of 10,000 entries on this
machine's disk is charged, read and verified; jobs are priced as a site does it; a year of mixed
jobs is counted by the filter and otherwise (`ledger_prices`); a site is killed before each of its
system calls from hold to settle (`tests/syscalls.py`); and a coverage-guided fuzzer sends a site
whatever it comes upon (`fuzzing`). Each entry is flushed to the disk before `reserve` returns: how
long that alone takes stands beside.
"""

import argparse
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fuzzing import MESSAGES_BAR, MESSAGES_QUICK, fuzzing_figures
from benchmarks.ledger_prices import (
    YEAR_DELTA,
    calibration_figures,
    filter_figures,
    price_figures,
    year,
)
from benchmarks.reporting import Context, Figure, report
from sordino_client.ledger import Ledger
from sordino_protocols.privacy import Composed, Gaussian, Guarantee, PoissonGaussian

ENTRIES, ENTRIES_QUICK = 10_000, 1_000
RESERVE_BAR, VERIFY_BAR, KILLS_BAR = 10.0, 1.0, 100.0
SCRIPT = Path(__file__).parents[1] / "tests" / "syscalls.py"
_BUDGET = Guarantee(1e6, 1e-5)
_ROUND, _EVALUATION = PoissonGaussian(0.05, 8.0, 1), Gaussian(20.0)
_ROUNDS = 48
_RUN = Composed((PoissonGaussian(0.05, 8.0, _ROUNDS), _EVALUATION))
# A hold, a settle, and a reserve and a commit for every round.
_ENTRIES_A_RUN = 2 + 2 * _ROUNDS
_RESERVATIONS = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.ledger")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="less of everything, two minutes")
    parser.add_argument("--messages", type=int, default=int(MESSAGES_BAR))
    chosen = parser.parse_args(arguments)
    quick = chosen.quick
    entries = ENTRIES_QUICK if quick else ENTRIES
    messages = MESSAGES_QUICK if quick else chosen.messages
    figures = ledger_figures(entries)
    # Before prices: those would leave in the caches what is to be calculated here.
    figures += calibration_figures()
    figures += price_figures(repetitions=5 if quick else 15)
    figures += filter_figures(year())
    kills, call_context = kill_figures(stride=12 if quick else 1)
    fuzzed, fuzz_context = fuzzing_figures(messages, bar=None if quick else MESSAGES_BAR)
    context = {
        "entries in the ledger": entries,
        "delta of the year": YEAR_DELTA,
        "releases in the year": len(year()),
        "file system": _file_system(Path(tempfile.gettempdir())),
        "cores": os.cpu_count(),
    }
    context |= {**call_context, **fuzz_context}
    return report([*figures, *kills, *fuzzed], context, as_json=chosen.json)


def ledger_figures(entries: int) -> list[Figure]:
    """Milliseconds of a reservation and seconds of a verification, in a ledger of that length."""
    flushes: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "ledger.db"
        _fill(path, entries)
        started = time.perf_counter()
        ledger = Ledger(path, now=_now, observe_fsync=flushes.append)
        opening = time.perf_counter() - started
        _hold(ledger, "measured")
        flushes.clear()
        taken = [_reserve_seconds(ledger, f"round-{number}") for number in range(_ROUNDS)]
        for run in range(_RESERVATIONS // _ROUNDS):
            _hold(ledger, f"measured-{run}")
            taken += [
                _reserve_seconds(ledger, f"round-{number}", run_id=f"measured-{run}")
                for number in range(_ROUNDS)
            ]
        started = time.perf_counter()
        verified = ledger.verify()
        verifying = time.perf_counter() - started
        ledger.close()
    reserve, flush = 1e3 * statistics.median(taken), 1e3 * statistics.median(flushes)
    slowest = 1e3 * statistics.quantiles(taken, n=20)[-1]
    return [
        Figure("reserve, median, ms", reserve, RESERVE_BAR, is_upper_bar=True),
        Figure("reserve, 95th percentile, ms", slowest),
        Figure("of which the disk's flush, median, ms", flush),
        Figure("verify the ledger, s", verifying, VERIFY_BAR, is_upper_bar=True),
        Figure("entries verified", float(verified), float(entries)),
        Figure("open the ledger, s", opening),
    ]


def kill_figures(*, stride: int) -> tuple[list[Figure], Context]:
    """Kill a site before its system calls, one after the other; each kill must leave it clean."""
    with tempfile.TemporaryDirectory(prefix="sordino-kills-") as scratch:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), scratch, "right", str(stride)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            return [], {"kills": f"not measured: {done.stderr.strip()[-300:]}"}
        lines = (Path(scratch) / "kills.jsonl").read_text().splitlines()
    kills = [facts for facts in map(json.loads, lines) if not facts["lived"]]
    dirty = [facts for facts in kills if facts["problems"]]
    figures = [
        Figure("kill points", float(len(kills)), KILLS_BAR if stride == 1 else None),
        Figure("kill points that broke a promise", float(len(dirty)), 0.0, is_upper_bar=True),
    ]
    return figures, {"broken promises": [facts["problems"] for facts in dirty]}


def _fill(path: Path, entries: int) -> None:
    """A ledger of whole runs. Written where writing is fast: what is measured comes later."""
    memory = Path("/dev/shm")  # noqa: S108 (a fresh directory on a disk in memory)
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as scratch:
        made = Path(scratch) / path.name
        ledger = Ledger(made, now=_now)
        for run in range(-(-entries // _ENTRIES_A_RUN)):
            run_id = f"run-{run}"
            _hold(ledger, run_id)
            for number in range(_ROUNDS):
                reservation = ledger.reserve(run_id, f"round-{number}", _ROUND, budget=_BUDGET)
                ledger.commit(reservation, release_sha256="ab" * 32)
            ledger.settle(run_id)
        ledger.close()
        for part in Path(scratch).iterdir():
            (path.parent / part.name).write_bytes(part.read_bytes())
    os.sync()


def _hold(ledger: Ledger, run_id: str) -> None:
    ledger.hold(
        run_id,
        dataset="heart",
        lineage="heart",
        event=_RUN,
        budget=_BUDGET,
        policy_sha256="0" * 64,
    )


def _reserve_seconds(ledger: Ledger, step: str, *, run_id: str = "measured") -> float:
    started = time.perf_counter()
    ledger.reserve(run_id, step, _ROUND, budget=_BUDGET)
    return time.perf_counter() - started


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _file_system(path: Path) -> str:
    """What kind of file system a path is on; "" where the kernel does not say."""
    mounts = Path("/proc/mounts")
    lines = mounts.read_text().splitlines() if mounts.exists() else []
    kinds = {line.split()[1]: line.split()[2] for line in lines}
    here = [place for place in kinds if path.resolve().is_relative_to(place)]
    return kinds[max(here, key=len)] if here else ""


if __name__ == "__main__":
    sys.exit(main())
