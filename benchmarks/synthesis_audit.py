"""The audit of synthetic data: what it proves of our release, what it finds, what it costs.

`python -m benchmarks.synthesis_audit [--json] [--quick] [--subject PYTHON]`. Faults are those of
`tests/audit/synthesis_faults.py`, planted in the product's own release and in what goes before and
after it. False alarms are counted over repetitions of every random probe at its real level, and
over whole white-box attacks. DataSynthesizer's PrivBayes is an external subject, and must be found
out: PYTHON is one that has it (`pip install DataSynthesizer`, in an environment of its own);
without it, that part is left out, and said to be. CPU seconds, of child processes too.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from benchmarks.reporting import Context, Figure, report
from sordino_audit.attacks.results import auc
from sordino_audit.bounds import gaussian
from sordino_audit.bounds.clopper_pearson import Counts, epsilon_lower_bound
from sordino_audit.synthesis.assessment import Subject, audit_synthesis
from sordino_audit.synthesis.canary_tables import canary_schema
from sordino_audit.synthesis.publication import Effort, local_pipeline, table_pipeline
from sordino_audit.synthesis.result import SynthesisAudit, SynthesisDesign
from sordino_audit.synthesis.structure import Pipeline, structure
from sordino_audit.synthesis.subject import Release, default_cases, measured
from sordino_audit.synthesis.suite import RANDOM, probe_one_by_one, probe_release
from sordino_audit.synthesis.white_box import RUNS, attack, canary_case, judge, set_canary_case
from sordino_client.training.noise import SecureNoise
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.specs import (
    GeneratorSpec,
    MixtureSpec,
    MstSpec,
    NadeSpec,
    PrivBayesSpec,
    VaeSpec,
)

# The planted faults are test code, and lie where tests are.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "audit"))

import synthesis_faults

EPSILON, DELTA, CONFIDENCE = 1.0, 1e-5, 0.95
LOWEST_RATIO_BAR, HIGHEST_RATIO_BAR = 0.9, 1.0
WHITE_BOX_SECONDS_BAR, FAULT_SECONDS_BAR = 2.0, 2.0
SUBJECT_BAR, SUBJECT_SECONDS_BAR = 2.0, 30.0
_SUBJECT = Path(__file__).with_name("synthesis_privbayes.py")
_SPECS: dict[str, GeneratorSpec] = {
    "mixture": MixtureSpec(components=4),
    "mst": MstSpec(kind="mst"),
    "privbayes": PrivBayesSpec(kind="privbayes"),
    "nade": NadeSpec(kind="nade", steps=2, hidden=8, sampling_rate=0.1),
    "vae": VaeSpec(kind="vae", steps=2, hidden=8, latent=2, clusters=2, sampling_rate=0.1),
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done.

    Attributes:
        probes: repetitions of every random probe on clean code.
        attacks: white-box attacks on clean code, of `runs` readings a side each.
        runs: of those.
        shadows: tables of our own generators, with a target and without, to learn from and as many
            to judge on.
        releases: of the external subject, on each side.
    """

    probes: int
    attacks: int
    runs: int
    shadows: int
    releases: int


WHOLE = Size(probes=200, attacks=200, runs=4_000, shadows=60, releases=100)
QUICK = Size(probes=5, attacks=10, runs=2_000, shadows=8, releases=60)


class PrivBayesReleases(BaseModel):
    """What the external subject published: rows with the canary's word, and whether it is told."""

    inserted: list[tuple[int, bool]]
    held_out: list[tuple[int, bool]]
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.synthesis_audit")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument("--subject", type=Path, help="a Python that has DataSynthesizer")
    chosen = parser.parse_args(arguments)
    started = time.process_time()
    found, context = figures(quick=chosen.quick, subject=chosen.subject)
    taken = round(time.process_time() - started, 1)
    return report(found, {**context, "CPU seconds": taken}, as_json=chosen.json)


def figures(*, quick: bool, subject: Path | None) -> tuple[list[Figure], Context]:
    """Everything, each figure beside its bar, and what was left out."""
    size = QUICK if quick else WHOLE
    made = [
        *_white_box(),
        *_faults(),
        *_structures(),
        *_self_test(),
        *_false_alarms(size),
        *_own_rows(size),
    ]
    if subject is None:
        left_out = "PrivBayes of DataSynthesizer (G8): no --subject was named"
        return made, {"left out": left_out}
    return [*made, *_external(subject, size)], {"left out": "nothing"}


def _white_box() -> list[Figure]:
    """The product's release at epsilon 1, worst-case neighbours."""
    multiplier = 1 / gaussian.mu_from_epsilon(EPSILON, DELTA)
    started = time.process_time()
    case, canaries = canary_case(noise_multiplier=multiplier)
    found = judge(attack(case, canaries), delta=DELTA, confidence=CONFIDENCE)
    seconds = time.process_time() - started
    ratio = found.mu_low / found.claimed_mu
    sets, having = set_canary_case(noise_multiplier=multiplier)
    of_sets = judge(attack(sets, having, runs=RUNS // 4), delta=DELTA, confidence=CONFIDENCE)
    name = f"white box, epsilon {EPSILON:g}, {RUNS:,} runs a side"
    return [
        Figure(f"{name}: mu shown at 95 % / mu", ratio, LOWEST_RATIO_BAR),
        Figure(f"{name}: not above mu", ratio, HIGHEST_RATIO_BAR, is_upper_bar=True),
        Figure(f"{name}: CPU s", seconds, WHITE_BOX_SECONDS_BAR, is_upper_bar=True),
        Figure("white box: mu estimated / mu", found.mu_estimate / found.claimed_mu),
        Figure(
            "white box, bound of counts alone: mu / mu", found.mu_low_of_counts / found.claimed_mu
        ),
        Figure("white box, nothing assumed of the noise: epsilon at least", found.epsilon_low),
        Figure(
            f"white box with sets, {RUNS // 4:,} runs a side: mu / mu",
            of_sets.mu_low / of_sets.claimed_mu,
        ),
    ]


def _faults() -> list[Figure]:
    """How many planted faults are found, and how long the slowest takes."""
    hunts: dict[str, Callable[[], bool]] = {
        name: partial(_is_release_found, each) for name, each in synthesis_faults.RELEASES.items()
    }
    hunts |= {
        name: partial(_is_pipeline_found, each) for name, each in synthesis_faults.PIPELINES.items()
    }
    found, slowest = 0, 0.0
    for is_found in hunts.values():
        started = time.process_time()
        found += is_found()
        slowest = max(slowest, time.process_time() - started)
    return [
        Figure(f"planted faults found, of {len(hunts)}", found, len(hunts)),
        Figure("CPU s of the slowest hunt", slowest, FAULT_SECONDS_BAR, is_upper_bar=True),
    ]


def _is_release_found(release: Release) -> bool:
    """Probes one after the other until one fails."""
    return any(not each.is_passed for each in probe_one_by_one(release, default_cases()))


def _is_pipeline_found(pipeline: Pipeline) -> bool:
    return not structure(pipeline).is_passed


def _structures() -> list[Figure]:
    """Whether an odd table shows in all that the product publishes."""
    pipelines = {"local": local_pipeline(Effort())}
    pipelines |= {name: table_pipeline(spec, Effort()) for name, spec in _SPECS.items()}
    told = [
        name
        for name, each in pipelines.items()
        if not structure(each, noise=SecureNoise()).is_passed
    ]
    name = f"pipelines, of {len(pipelines)}, whose structure tells of an odd table"
    return [Figure(name, len(told), 0, is_upper_bar=True)]


def _self_test() -> list[Figure]:
    started = time.process_time()
    outcomes = probe_release()
    structure()
    seconds = time.process_time() - started
    failed = sum(not each.is_passed for each in outcomes)
    return [
        Figure("CPU s that a self-test gains", seconds),
        Figure("probes of the product that fail", failed, 0, is_upper_bar=True),
    ]


def _false_alarms(size: Size) -> list[Figure]:
    """Of random probes, each at the level of a self-test; and of bounds, at theirs."""
    case = default_cases()[0]
    alarms = sum(
        not probe(measured, case).is_passed for _ in range(size.probes) for probe in RANDOM.values()
    )
    above = sum(_is_above(size.runs) for _ in range(size.attacks))
    return [
        Figure(
            f"false alarms of {len(RANDOM)} random probes, {size.probes} times each",
            alarms,
            0,
            is_upper_bar=True,
        ),
        Figure(
            f"share of {size.attacks} clean attacks whose 95 % bound is above mu",
            above / size.attacks,
            # Nominal, and three standard deviations of so many.
            0.05 + 3 * float(np.sqrt(0.05 * 0.95 / size.attacks)),
            is_upper_bar=True,
        ),
    ]


def _is_above(runs: int) -> bool:
    case, canaries = canary_case(noise_multiplier=2.0)
    found = judge(attack(case, canaries, runs=runs), delta=DELTA, confidence=CONFIDENCE)
    return found.mu_low > found.claimed_mu


def _own_rows(size: Size) -> list[Figure]:
    """Attacks on rows of our own generators, which may find no more than is claimed."""
    network = _audited(
        PrivBayesSpec(kind="privbayes"), SynthesisDesign(4_000, size.shadows, size.shadows, 200)
    )
    neural = _audited(
        NadeSpec(kind="nade", steps=100, hidden=16, sampling_rate=0.1), SynthesisDesign(4_000)
    )
    attacked = network.attacks[0]
    widest = max(each.advantage.low - each.most for each in network.divergences)
    return [
        Figure(
            "PrivBayes, ours: query-based attack, epsilon at least",
            attacked.epsilon_low,
            network.claim.epsilon,
            is_upper_bar=True,
        ),
        Figure("PrivBayes, ours: query-based attack, AUC", attacked.auc),
        Figure(
            "PrivBayes, ours: advantage of an attribute beyond the claim",
            widest,
            0,
            is_upper_bar=True,
        ),
        Figure("NADE: AUC of a discriminator", neural.discriminator or float("nan")),
    ]


def _audited(generator: GeneratorSpec, design: SynthesisDesign) -> SynthesisAudit:
    schema = canary_schema()
    plan = SynthesisPlan(
        generator=generator,
        mode="table",
        shape=domain_of(schema).shape,
        schema_sha256=schema.synthesis_digest(),
        noise_multiplier=1 / gaussian.mu_from_epsilon(EPSILON, DELTA),
    )
    return audit_synthesis(Subject(generator.kind, plan, schema, DELTA), design)


def _external(python: Path, size: Size) -> list[Figure]:
    """DataSynthesizer's PrivBayes: the word that one record has, in rows and in the description."""
    command = [str(python), str(_SUBJECT), "--releases", str(size.releases)]
    command += ["--epsilon", str(EPSILON)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    found = PrivBayesReleases.model_validate(json.loads(ended.stdout))
    inserted, held_out = (
        np.array(side, dtype=np.float64) for side in (found.inserted, found.held_out)
    )
    bounds = [_bound(inserted[:, view] > 0, held_out[:, view] > 0) for view in (0, 1)]
    name = f"PrivBayes of DataSynthesizer, epsilon {EPSILON:g}, {size.releases} releases a side"
    return [
        Figure(f"{name}: epsilon at least, from its rows", bounds[0], SUBJECT_BAR),
        Figure(f"{name}: epsilon at least, from its description", bounds[1], SUBJECT_BAR),
        Figure(f"{name}: AUC, from its rows", auc(inserted[:, 0], held_out[:, 0])),
        Figure(f"{name}: CPU s", found.seconds, SUBJECT_SECONDS_BAR, is_upper_bar=True),
    ]


def _bound(inserted: np.ndarray, held_out: np.ndarray) -> float:
    """Of guessing "there" where the word is: a threshold that needs no looking."""
    counts = Counts(
        false_positives=int(held_out.sum()),
        held_out=len(held_out),
        false_negatives=int((~inserted).sum()),
        inserted=len(inserted),
    )
    return epsilon_lower_bound(counts, delta=DELTA, confidence=CONFIDENCE)


if __name__ == "__main__":
    sys.exit(main())
