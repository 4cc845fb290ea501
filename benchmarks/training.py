"""Records a second of one core: this engine, plain SGD without privacy, and stock Opacus.

`python -m benchmarks.training [--json] [--quick] [--peers] [--only WORD] [--memory WORKLOAD]`.
The contenders take turns in one process, a step each, so that a busy machine hits all alike; every
ratio is the median over the turns of a rival's CPU time to ours; a slow rival sits out the later
turns. A step of ours is a whole one:
secret Poisson sample, clipping, secure noise, the grid. The rivals draw their batch as cheaply as
we do, not with the slower loader that Opacus ships, use its insecure noise, and have denormals
flushed, as ours has. Bars are for full precision; bfloat16 products stand beside them.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.reporting import Figure, report
from benchmarks.training_contenders import (
    Step,
    ghost_step,
    hooks_step,
    our_step,
    sgd_step,
)
from benchmarks.training_peers import missing_peers, peer_steps
from benchmarks.training_workloads import WORKLOADS, Workload
from sordino_client.training.arithmetic import Performance

# CPU seconds of a step, by contender and turn.
Seconds = Mapping[str, Mapping[int, float]]

MEMORY_BAR = 100.0
OURS, OURS_REDUCED = "sordino", "sordino, bfloat16 products"
SGD, SGD_REDUCED = "SGD", "SGD, bfloat16 products"
HOOKS, HOOKS_IN_PARTS, GHOST = "Opacus hooks", "Opacus hooks in parts", "Opacus ghost"
# A turn takes at least this long, so that the clock's step does not matter.
_LEAST_RECORDS = 128
_TURNS = 9
# A contender that took so many CPU seconds for a workload sits out the turns that are left.
_ENOUGH_SECONDS, _ENOUGH_SECONDS_QUICK = 5.0, 0.6


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.training")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="few turns, about a minute")
    parser.add_argument("--peers", action="store_true", help="other libraries, where installed")
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--memory", help="print the megabytes that training this one adds")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    if chosen.memory:
        print(_added_megabytes(_named(chosen.memory)))
        return 0
    figures = []
    for workload in WORKLOADS:
        if chosen.only in workload.name:
            contenders = _contenders(workload, peers=chosen.peers, quick=chosen.quick)
            figures += _figures(workload, _seconds(workload, contenders, quick=chosen.quick))
    figures += [_memory(workload) for workload in WORKLOADS[1:2] if chosen.only in workload.name]
    context = _context(peers=chosen.peers) | {"bars not measured": _unmeasured(figures)}
    return report(figures, context, as_json=chosen.json)


def _contenders(workload: Workload, *, peers: bool, quick: bool) -> dict[str, Step]:
    contenders = {
        OURS: our_step(workload, Performance()),
        OURS_REDUCED: our_step(workload, Performance(reduced_products=True)),
        SGD: sgd_step(workload),
        SGD_REDUCED: sgd_step(workload, reduced=True),
        HOOKS: hooks_step(workload),
        HOOKS_IN_PARTS: _best_in_parts(workload, quick=quick),
        GHOST: ghost_step(workload),
    }
    return contenders | peer_steps(workload) if peers else contenders


def _best_in_parts(workload: Workload, *, quick: bool) -> Step:
    """Opacus with the physical batch that suits it best here, by one trial each."""
    sizes = [size for size in ((64,) if quick else (16, 32, 64, 128)) if size < workload.batch]
    if not sizes:
        return hooks_step(workload)
    steps = [hooks_step(workload, physical=size) for size in sizes]
    if len(steps) == 1:
        return steps[0]
    for step in steps:
        step()
    return min(steps, key=lambda step: _timed(step, repeats=1))


def _seconds(workload: Workload, contenders: Mapping[str, Step], *, quick: bool) -> Seconds:
    """CPU seconds of a step of each contender, turn by turn."""
    # Every shape is checked on its first use: once a process, so not counted.
    for _ in range(6 if workload.is_small else 2):
        contenders[OURS]()
    contenders[OURS_REDUCED]()
    repeats = -(-_LEAST_RECORDS // workload.batch)
    enough = _ENOUGH_SECONDS_QUICK if quick else _ENOUGH_SECONDS
    taken: dict[str, dict[int, float]] = {name: {} for name in contenders}
    for turn in range(_TURNS + 1):
        for name, step in contenders.items():
            if name == OURS or repeats * sum(taken[name].values()) < enough:
                taken[name][turn] = _timed(step, repeats=repeats)
        # Ours is there in every turn that a rival takes.
        if all(turn not in taken[name] for name in contenders if name != OURS):
            break
    return taken


def _timed(step: Step, *, repeats: int) -> float:
    # Ours flushes denormals inside a round and ends with it; the rivals get the same.
    torch.set_flush_denormal(True)
    started = time.process_time()
    for _ in range(repeats):
        step()
    return (time.process_time() - started) / repeats


def _figures(workload: Workload, seconds: Seconds) -> list[Figure]:
    ours = statistics.median(seconds[OURS].values())
    ratios = {
        name: _ratio(taken, seconds[OURS])
        for name, taken in seconds.items()
        if name not in {OURS, OURS_REDUCED}
    }
    ratios["best Opacus"] = min(ratios[HOOKS], ratios[HOOKS_IN_PARTS], ratios[GHOST])
    return [
        Figure(f"{workload.name}: records a CPU second", workload.batch / ours),
        *(
            Figure(f"{workload.name}: ratio to {name}", ratio, workload.bars.get(name))
            for name, ratio in ratios.items()
        ),
        Figure(
            f"{workload.name}: with bfloat16 products, ratio to {SGD}",
            _ratio(seconds[SGD], seconds[OURS_REDUCED]),
        ),
    ]


def _ratio(rival: Mapping[int, float], ours: Mapping[int, float]) -> float:
    """The median over the turns that both took; the first warms caches, and counts if it is all."""
    turns = [turn for turn in rival if turn in ours]
    return statistics.median(rival[turn] / ours[turn] for turn in turns[1:] or turns)


def _memory(workload: Workload) -> Figure:
    """In a process of its own: what one has used stays with it."""
    command = [sys.executable, "-m", "benchmarks.training", "--memory", workload.name]
    added = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    name = f"{workload.name}: MB above the model"
    return Figure(name, added, MEMORY_BAR, is_upper_bar=True)


def _added_megabytes(workload: Workload) -> float:
    """Peak resident memory over that with model and records alone."""
    units = workload.units()
    model = workload.build(False)  # noqa: FBT003
    # One plain step first: what torch loads for any matrix product is not ours.
    model(torch.from_numpy(units.features[:32])).sum().backward()
    # The peak so far is that of importing; from here on it is that of training.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _peak_kilobytes()
    step = our_step(workload, Performance())
    for _ in range(5):
        step()
    return (_peak_kilobytes() - before) / 1024


def _peak_kilobytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _named(name: str) -> Workload:
    return next(workload for workload in WORKLOADS if workload.name == name)


def _unmeasured(figures: Sequence[Figure]) -> list[str]:
    """Bars against a library that is not timed here: it takes `--peers` and the library."""
    measured = {figure.name for figure in figures}
    return [
        f"{workload.name}: ratio to {rival} >= {bar}"
        for workload in WORKLOADS
        for rival, bar in workload.bars.items()
        if f"{workload.name}: ratio to {rival}" not in measured
    ]


def _context(*, peers: bool) -> dict[str, object]:
    context: dict[str, object] = {
        "processor": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    return context | {"peers": missing_peers()} if peers else context


if __name__ == "__main__":
    sys.exit(main())
