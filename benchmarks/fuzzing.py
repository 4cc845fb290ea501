"""Messages and files that a coverage-guided fuzzer makes up, and what a real site makes of them.

`python -m benchmarks.fuzzing [--json] [--quick] [--messages N]`. Each worker is a process of its
own with a real site (ledger, outbox, engine and secure noise) on a disk in memory, where there is
one; `tests/fuzzing.py` says what counts as a crash and as an uncharged release. An answer
`internal` is a crash: that is how a bug of ours looks from outside.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.reporting import Context, Figure, report

MESSAGES_BAR = 200_000.0
MESSAGES_QUICK = 2_000
FILES_A_MESSAGE = 0.5
SCRIPT = Path(__file__).parents[1] / "tests" / "fuzzing.py"
_MEMORY = Path("/dev/shm")  # noqa: S108 (a disk in memory, and a fresh directory on it)
_SECONDS_A_WORKER = 3600


@dataclass(slots=True)
class Fuzzed:
    """What several workers did together.

    Attributes:
        tried: inputs.
        problems: how often what went wrong; uncharged releases are in it too.
        uncharged: releases that nobody paid for.
        outcomes: how often the site, or a parser, answered what.
        corpus: inputs that reached something new.
        seconds: that it took.
    """

    tried: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    uncharged: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    corpus: int = 0
    seconds: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.fuzzing")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="few messages, a minute")
    parser.add_argument("--messages", type=int, default=int(MESSAGES_BAR))
    chosen = parser.parse_args(arguments)
    messages = MESSAGES_QUICK if chosen.quick else chosen.messages
    figures, context = fuzzing_figures(messages, bar=None if chosen.quick else MESSAGES_BAR)
    return report(figures, context, as_json=chosen.json)


def fuzzing_figures(messages: int, *, bar: float | None) -> tuple[list[Figure], Context]:
    """Fuzz a site with so many messages, and the readers of files with half as many files."""
    workers = max(os.cpu_count() or 1, 1)
    site = fuzz("site", messages, workers=workers)
    files = fuzz("files", int(messages * FILES_A_MESSAGE), workers=workers)
    figures = [
        Figure("messages fuzzed", float(site.tried), bar),
        Figure("crashes", float(sum(site.problems.values())), 0.0, is_upper_bar=True),
        Figure("uncharged releases", float(site.uncharged), 0.0, is_upper_bar=True),
        Figure("files fuzzed", float(files.tried)),
        Figure(
            "files that broke a reader", float(sum(files.problems.values())), 0.0, is_upper_bar=True
        ),
        Figure("messages a second", site.tried / site.seconds),
    ]
    context = {
        "answers to messages": dict(site.outcomes.most_common()),
        "messages that reached new code": site.corpus,
        "problems": dict(site.problems + files.problems),
        "what readers made of files": dict(sorted(files.outcomes.items())),
        "files that reached new code": files.corpus,
        "fuzzing workers": workers,
    }
    return figures, context


def fuzz(target: str, count: int, *, workers: int) -> Fuzzed:
    """Try so many inputs in so many processes, each with a seed of its own."""
    started = time.monotonic()
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="sordino-fuzzing-") as scratch:
        directories = [Path(scratch) / str(seed) for seed in range(1, workers + 1)]
        children = [
            _start(directory, target, -(-count // workers), seed)
            for seed, directory in enumerate(directories, start=1)
        ]
        try:
            codes = [child.wait(timeout=_SECONDS_A_WORKER) for child in children]
        finally:
            for child in children:
                child.kill()
        fuzzed = Fuzzed(seconds=time.monotonic() - started)
        for directory, code in zip(directories, codes, strict=True):
            _add(fuzzed, directory, code)
    return fuzzed


def _start(directory: Path, target: str, count: int, seed: int) -> subprocess.Popen[bytes]:
    directory.mkdir()
    command = [sys.executable, str(SCRIPT), str(directory), target, str(count), str(seed)]
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def _add(fuzzed: Fuzzed, directory: Path, code: int) -> None:
    found = directory / "found.json"
    if not found.exists():
        raise SystemExit((directory / "log").read_text()[-2000:])
    facts = json.loads(found.read_text())
    fuzzed.tried += facts["tried"]
    fuzzed.uncharged += facts["uncharged"]
    fuzzed.problems.update(facts["problems"])
    fuzzed.outcomes.update(facts["outcomes"])
    fuzzed.corpus += sum(1 for _ in (directory / "corpus").iterdir())
    if code != 0:
        # libFuzzer ends a process that hangs, or that dies in native code.
        fuzzed.problems[f"a worker ended with code {code}"] += 1


if __name__ == "__main__":
    sys.exit(main())
