"""The zoo: every planted bug is found, clean code is not blamed, and a live violation is measured.

`python -m benchmarks.audit_zoo [--json] [--quick]`. Bugs are those of `tests/zoo.py` and
`tests/zoo_sites.py`, planted in the product's own trainer, site and server. Of each trainer the
probes of a self-test run until one fails; of a site, two whole runs and all probes of them.

False alarms are counted over repetitions of every random probe of a trainer, each at the level at
which a self-test runs it; exact probes replay all randomness, and a repetition would be the same.
The live violation is Opacus' stock loop, as `tests/opacus_loop.py` describes it.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.reporting import Figure, report
from sordino_audit.findings import Verdict
from sordino_audit.primitives.float_attack import float_adder, grid_adder, proving_share
from sordino_audit.probes import server_probes, site_probes
from sordino_audit.probes.self_test import self_test
from sordino_audit.probes.server_probes import Aggregator
from sordino_audit.probes.site_runs import run_trials
from sordino_audit.probes.suite import RANDOM, default_cases, probe_one_by_one
from sordino_audit.probes.trainer import Trainer, engine
from sordino_audit.probes.trial_site import SiteMaker, trial_job
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import Noise, SecureNoise
from sordino_protocols.clipping import FLAT, ClippingRule, PerLayerClipping

# The zoo is test code, and lies where tests are.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import opacus_loop
import zoo
import zoo_runs
import zoo_sites

BUG_SECONDS_BAR = 2.0
SELF_TEST_SECONDS_BAR = 3.0
CLEAN_REPETITIONS = 1_000
CLEAN_QUICK = 10
OPACUS_BAR = 4.178
_OUTPUTS = 100_000
_BY_LAYER = PerLayerClipping(kind="per_layer")
_IN_LANES: dict[str, ClippingRule] = {
    "noise divided by the batch size": FLAT,
    "sigma over the square root of two": FLAT,
    "sigma a tenth too small": FLAT,
    "the averaged gradient is clipped": FLAT,
    "each layer clipped to the whole norm": _BY_LAYER,
    "the last layer left out of the norm": _BY_LAYER,
    "no noise on the last layer": FLAT,
    "a seed used in every round": FLAT,
    "a sensitivity that is not the clipping norm": FLAT,
}


@dataclass(frozen=True, slots=True)
class Hunt:
    """Whether a bug was found, and in how many CPU seconds."""

    is_found: bool
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.audit_zoo")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="few repetitions, no bar for Opacus")
    chosen = parser.parse_args(arguments)
    started = time.process_time()
    found = figures(quick=chosen.quick)
    taken = round(time.process_time() - started, 1)
    return report(found, {"CPU seconds": taken}, as_json=chosen.json)


def figures(*, quick: bool) -> list[Figure]:
    """Everything, each figure beside its bar."""
    return [
        *_self_test(),
        *_hunted("trainers", {name: _trainer(each) for name, each in zoo.TRAINERS.items()}),
        *_hunted("sites", {name: _site(each) for name, each in zoo_sites.SITES.items()}),
        *_hunted("scales of server and site", _scales()),
        *_false_alarms(CLEAN_QUICK if quick else CLEAN_REPETITIONS),
        *([] if quick else _lanes()),
        *_opacus(100 if quick else opacus_loop.RELEASES, bar=None if quick else OPACUS_BAR),
        *_floats(),
    ]


def _self_test() -> list[Figure]:
    """One, in a process that has everything imported and nothing worked out yet."""
    tested = self_test(Performance())
    failed = sum(not each.is_passed for each in tested.outcomes)
    return [
        Figure(
            "CPU seconds of a self-test", tested.seconds, SELF_TEST_SECONDS_BAR, is_upper_bar=True
        ),
        Figure(f"probes that failed, of {len(tested.outcomes)}", failed, 0, is_upper_bar=True),
    ]


def _hunted(where: str, hunts: dict[str, Hunt]) -> list[Figure]:
    """How many of the planted bugs were found, and how long the slowest took."""
    found = sum(each.is_found for each in hunts.values())
    slowest = max(each.seconds for each in hunts.values())
    return [
        Figure(f"bugs found in {where}, of {len(hunts)}", found, len(hunts)),
        Figure(
            f"CPU seconds of the slowest in {where}", slowest, BUG_SECONDS_BAR, is_upper_bar=True
        ),
    ]


def _trainer(trainer: Trainer) -> Hunt:
    """Probes of a self-test, one after the other until one fails."""
    cases = default_cases(Performance())
    return _hunt(lambda: any(not each.is_passed for each in probe_one_by_one(trainer, cases)))


def _site(make: SiteMaker) -> Hunt:
    """A run of two sites, and all probes of them."""

    def is_found() -> bool:
        with run_trials(Performance(), make) as trials:
            return not all(probe(*trials).is_passed for probe in site_probes.OF_A_RUN.values())

    return _hunt(is_found)


def _scales() -> dict[str, Hunt]:
    """Divisors that were counted or received."""

    def is_site_found() -> bool:
        with zoo_sites.site_divides_by_its_records():
            return not site_probes.site_scale(Performance()).is_passed

    plan = trial_job().plan.require_training()

    def is_server_found(mean: Aggregator) -> bool:
        return not server_probes.normaliser(plan, mean).is_passed

    hunts = {
        name: _hunt(partial(is_server_found, mean)) for name, mean in zoo_sites.AGGREGATORS.items()
    }
    return {**hunts, "a site that divides by its records": _hunt(is_site_found)}


def _hunt(is_found: Callable[[], bool]) -> Hunt:
    started = time.process_time()
    return Hunt(is_found(), time.process_time() - started)


def _false_alarms(repetitions: int) -> list[Figure]:
    """Every random probe of the product's trainer, so many times, each at its real level."""
    case = default_cases(Performance())[0]
    alarms = 0
    for _ in range(repetitions):
        for probe in RANDOM.values():
            found = probe(engine, case)
            alarms += found is not None and not found.is_passed
    name = f"false alarms of {len(RANDOM)} random probes, {repetitions:,} times each"
    return [Figure(name, alarms, 0, is_upper_bar=True)]


def _lanes() -> list[Figure]:
    """What lanes alone show of one run of two sites with 300 lanes each."""
    for rule in (FLAT, _BY_LAYER):
        zoo_runs.prepared(zoo_runs.run_case(rule).plan)
    hunts = {
        name: _hunt(partial(_is_seen, zoo.TRAINERS[name], rule, SecureNoise))
        for name, rule in _IN_LANES.items()
    }
    hunts["one seed at all sites"] = _hunt(partial(_is_seen, engine, FLAT, _forged))
    return _hunted("the lanes of one run", hunts)


def _is_seen(trainer: Trainer, rule: ClippingRule, noise: Callable[[], Noise]) -> bool:
    audit = zoo_runs.audit(trainer, zoo_runs.run_case(rule), noise=noise)
    return audit.verdict is Verdict.VIOLATION


def _forged() -> Noise:
    return zoo.Forged(11)


def _opacus(releases: int, *, bar: float | None) -> list[Figure]:
    """One record more, 1,000 to 1,001: seen in the scale of Opacus' releases, and not in ours."""
    started = time.process_time()
    theirs = opacus_loop.opacus_powers(releases)
    seconds = time.process_time() - started
    ours = opacus_loop.engine_powers(theirs.claimed, releases)
    return [
        Figure("Opacus' stock loop: claimed epsilon of a release", theirs.claimed),
        Figure("Opacus' stock loop: lower bound at 99.9 %", theirs.epsilon_low, bar),
        Figure("Opacus' stock loop: CPU seconds of its releases and of the attack", seconds),
        Figure(
            "the same attack on the engine: lower bound at 99.9 %",
            ours.epsilon_low,
            theirs.claimed,
            is_upper_bar=True,
        ),
    ]


def _floats() -> list[Figure]:
    """Outputs that prove that a sum was 0 and not 1, noise of standard deviation 1."""
    adders = {
        "float32": float_adder("float32", noise_std=1.0),
        "float64": float_adder("float64", noise_std=1.0),
    }
    shares = {
        name: proving_share(adder, SecureNoise(), count=_OUTPUTS, total=0.0, other=1.0)
        for name, adder in adders.items()
    }
    grid = grid_adder(noise_std=1.0, step=2.0**-16)
    ours = proving_share(grid, SecureNoise(), count=_OUTPUTS, total=0.0, other=1.0)
    return [
        *(Figure(f"outputs with {name} noise that prove a sum", s) for name, s in shares.items()),
        Figure("outputs on the engine's grid that prove a sum", ours, 0, is_upper_bar=True),
    ]


if __name__ == "__main__":
    sys.exit(main())
