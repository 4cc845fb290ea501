"""Every figure of the audit, each beside its bar: what it finds, how sure it is, what it costs.

`python -m benchmarks.audit [--json] [--quick] [--only PART ...] [--data DIR]`. The parts:

- bounds: published values, calibration over simulated clean audits, e-processes (G1, G2, G5);
- lanes: what one run's canary lanes prove, and what they cost (G3);
- zoo: every planted bug is found, clean code is not blamed, a live violation is (G4);
- attacks: membership attacks where there is much to find (G6, G7);
- replay: whole federations, run again with canaries and without;
- federation: a real one, processes and all, audited at its sites.

`--quick` does less of everything, leaves out the bars that need more, and the federation of real
processes unless `--only` asks for it. Parts run one after the other in this process; CPU time is
that of this process and of all that it started and waited for.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from benchmarks.reporting import Context, Figure, report

CPU_MINUTES_BAR = 25.0
QUICK_SECONDS_BAR = 60.0
_LOCATION = "location30.npz"

Measured = tuple[list[Figure], Context]


@dataclass(frozen=True, slots=True)
class Part:
    """One benchmark, which also runs alone: `python -m benchmarks.audit_<name>`.

    Attributes:
        name: of the part.
        measure: runs it, quickly or in full, with the folder of public data.
        is_slow: even the quick form takes a minute.
    """

    name: str
    measure: Callable[[bool, Path], Measured]
    is_slow: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.audit")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS], metavar="PART")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    chosen = parser.parse_args(arguments)
    parts = _chosen(chosen.only, quick=chosen.quick)
    found, context = run_parts(parts, quick=chosen.quick, data=chosen.data)
    return report(found, context, as_json=chosen.json)


def run_parts(parts: Sequence[Part], *, quick: bool, data: Path) -> Measured:
    """Run parts one after the other; their figures under their names, and what they took."""
    whole = _cpu_seconds()
    found: list[Figure] = []
    contexts: dict[str, object] = {}
    seconds: dict[str, float] = {}
    for part in parts:
        started = _cpu_seconds()
        figures, contexts[part.name] = part.measure(quick, data)
        seconds[part.name] = round(_cpu_seconds() - started, 1)
        # Minutes go by: whoever waits sees how far it is.
        print(f"{part.name}: {seconds[part.name]:g} CPU seconds", file=sys.stderr, flush=True)
        found += [replace(each, name=f"{part.name}: {each.name}") for each in figures]
    taken = _cpu_seconds() - whole
    # The start of Python and the imports are in the whole, and in no part.
    total = Figure("CPU minutes in all", taken / 60, CPU_MINUTES_BAR, is_upper_bar=True)
    if quick:
        total = Figure("CPU seconds in all", taken, QUICK_SECONDS_BAR, is_upper_bar=True)
    context = {
        "parts": contexts,
        "CPU seconds by part": seconds,
        "left out": _left_out(parts, data),
        "cores": os.cpu_count(),
    }
    return [*found, total], context


def _chosen(only: Sequence[str] | None, *, quick: bool) -> list[Part]:
    if only is not None:
        return [part for part in PARTS if part.name in only]
    return [part for part in PARTS if not (quick and part.is_slow)]


def _left_out(parts: Sequence[Part], data: Path) -> list[str]:
    """What is not measured, a sentence each."""
    names = {part.name for part in parts}
    sentences = [f"{part.name}: not measured here" for part in PARTS if part.name not in names]
    if "attacks" in names and not (data / _LOCATION).exists():
        sentences.append(f"attacks on Location-30 (G6): {data / _LOCATION} is absent")
    return sentences


def _cpu_seconds() -> float:
    """Of this process and of all that it waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _plain(name: str) -> Part:
    """A part whose module has `figures(*, quick)`; imported when it runs."""

    def measure(quick: bool, _: Path) -> Measured:  # noqa: FBT001
        figures: list[Figure] = import_module(f"benchmarks.audit_{name}").figures(quick=quick)
        return figures, {}

    return Part(name, measure)


def _attacks(quick: bool, data: Path) -> Measured:  # noqa: FBT001
    from benchmarks import audit_attacks  # noqa: PLC0415

    figures = audit_attacks.figures(quick=quick, data=data)
    return figures, audit_attacks.context(quick=quick, data=data)


def _federation(quick: bool, _: Path) -> Measured:  # noqa: FBT001
    from benchmarks import audit_federation  # noqa: PLC0415

    return audit_federation.figures(quick=quick)


PARTS = (
    _plain("bounds"),
    _plain("lanes"),
    _plain("zoo"),
    Part("attacks", _attacks),
    _plain("replay"),
    Part("federation", _federation, is_slow=True),
)


if __name__ == "__main__":
    sys.exit(main())
