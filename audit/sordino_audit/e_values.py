"""Evidence across runs: e-values of every site, kept from audit to audit, and what they find.

A p-value is about one run. A little too little noise, or a leak that shows once in a while, adds up
over many runs only in an e-process, which may be looked at after each. There is one for each site,
test and configuration; another configuration, which is another plan, claim or version of the
software, starts anew. A run counts once, however often it is audited. What is bet, and which lanes
make a pair, is fixed by the claim and the lanes' order before anything is read.

At a site the mean of its e-values counts. Across sites the false discovery rate is controlled
(Wang & Ramdas 2022), so over all runs of one configuration that keeps its promise, a `VIOLATION` is
ever found with a probability of at most 1 in 1,000, and a `SUSPECT` of at most 1 in 20.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from sordino_audit import noise_process
from sordino_audit.bounds import e_process
from sordino_audit.bounds.e_process import EProcess, Wager, e_bh, log_mean
from sordino_audit.findings import Finding, Severity
from sordino_audit.noise_process import NoiseProcess
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee
from sordino_protocols.signing import canonical_json

Floats = NDArray[np.float64]

VIOLATION_E_VALUE = 1000.0
"""The e-value, or for one site of many the smallest that counts as one, that is a violation."""
SUSPECT_E_VALUE = 20.0
"""The same for what must be repeated."""

_CHECK = "e-value"
_LARGEST_LOG = 700.0
_MOST_IN_WORDS = 1e6


@dataclass(frozen=True, slots=True, eq=False)
class PairEvidence:
    """Scores of one run's canaries at one site, in pairs that were fixed beforehand.

    Attributes:
        site: the site's name.
        test: what is tested.
        configuration: hash of what is claimed.
        wagers: the bets against the claim.
        inserted: scores of inserted canaries, shape (pairs,).
        held_out: scores of held-out ones, same shape.
    """

    site: str
    test: str
    configuration: str
    wagers: tuple[Wager, ...]
    inserted: Floats
    held_out: Floats


@dataclass(frozen=True, slots=True)
class NoiseEvidence:
    """Squared noise in one run's held-out lanes at one site.

    Attributes:
        site: the site's name.
        test: what is tested.
        configuration: hash of what is claimed.
        squares: sum of squared readings over the claimed variance.
        readings: their number.
    """

    site: str
    test: str
    configuration: str
    squares: float
    readings: int


Evidence = PairEvidence | NoiseEvidence


@dataclass(frozen=True, slots=True)
class EValue:
    """The evidence of one test at one site, over all runs that counted.

    Attributes:
        site: the site's name.
        test: what is tested.
        log_value: natural logarithm of the e-value.
        pairs: pairs of canaries, or readings, that were seen so far.
        history: `log_value` after each run, the last one included.
    """

    site: str
    test: str
    log_value: float
    pairs: int
    history: tuple[float, ...]

    @property
    def value(self) -> float:
        """The e-value, at most e^700."""
        return math.exp(min(self.log_value, _LARGEST_LOG))


@dataclass(frozen=True, slots=True)
class History:
    """An e-process, and the runs that it has seen.

    Attributes:
        process: its state.
        runs: their ids, in the order in which they were counted.
        path: its `log_value` after each of them.
    """

    process: EProcess | NoiseProcess
    runs: tuple[str, ...]
    path: tuple[float, ...]


Weigh = Callable[[Sequence[Evidence]], tuple[EValue, ...]]
"""Turns a run's evidence into e-values: of that run alone, or with all runs before it."""


def configuration_of(plan: TrainingPlan, claim: Guarantee, *, view: str) -> str:
    """The hash of what is claimed, and by which version of the software; 64 hex digits.

    Args:
        plan: what is claimed to run.
        claim: the guarantee that is claimed.
        view: who observed it.
    """
    # Frozen public facts, all of them in the text, every float in full.
    facts = [repr(plan), repr(claim), view, _version()]
    return hashlib.sha256(canonical_json(facts)).hexdigest()


def pairs_of(scores: Floats, inserted: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Scores of inserted and of held-out lanes, the first with the first, as far as both reach."""
    present, absent = scores[inserted], scores[~inserted]
    pairs = min(present.size, absent.size)
    return present[:pairs], absent[:pairs]


def weigh_alone(evidence: Sequence[Evidence]) -> tuple[EValue, ...]:
    """E-values of one run, forgetting all others."""
    return tuple(e_value(each, counted(None, each, run_id="")) for each in evidence)


def counted(history: History | None, evidence: Evidence, *, run_id: str) -> History:
    """The history with one more run; unchanged if the run is in it.

    Raises:
        ValueError: the history is of another kind of evidence.
    """
    if history is None:
        history = History(_start(evidence), (), ())
    if run_id in history.runs:
        return history
    process = _moved(history.process, evidence)
    return History(process, (*history.runs, run_id), (*history.path, process.log_value))


def e_value(evidence: Evidence, history: History) -> EValue:
    """What a history comes to, under the evidence's names."""
    process = history.process
    seen = process.pairs if isinstance(process, EProcess) else process.readings
    return EValue(evidence.site, evidence.test, process.log_value, seen, history.path)


def judge(e_values: Sequence[EValue]) -> tuple[Finding, ...]:
    """What the evidence of all sites together finds; nothing is found without e-values."""
    by_site: dict[str, list[float]] = {}
    for each in e_values:
        by_site.setdefault(each.site, []).append(each.log_value)
    means = {
        site: math.exp(min(log_mean(values), _LARGEST_LOG)) for site, values in by_site.items()
    }
    if not means:
        return ()
    certain = e_bh(means, alpha=1 / VIOLATION_E_VALUE)
    odd = e_bh(means, alpha=1 / SUSPECT_E_VALUE)
    return tuple(
        _finding(site, means[site], is_certain=site in certain) for site in means if site in odd
    )


@lru_cache(maxsize=1)
def _version() -> str:
    return version("sordino")


def _start(evidence: Evidence) -> EProcess | NoiseProcess:
    if isinstance(evidence, PairEvidence):
        return e_process.start(evidence.wagers)
    return NoiseProcess()


def _moved(process: EProcess | NoiseProcess, evidence: Evidence) -> EProcess | NoiseProcess:
    match process, evidence:
        case EProcess(), PairEvidence():
            return e_process.update(process, evidence.inserted, evidence.held_out)
        case NoiseProcess(), NoiseEvidence():
            return noise_process.update(
                process, squares=evidence.squares, readings=evidence.readings
            )
        case _:
            raise ValueError("an e-process takes one kind of evidence")


def _finding(site: str, mean: float, *, is_certain: bool) -> Finding:
    value = f"{mean:,.0f}" if mean <= _MOST_IN_WORDS else f"more than {_MOST_IN_WORDS:,.0f}"
    evidence = f"over all its runs of this configuration, site {site} has an e-value of {value}"
    if is_certain:
        return Finding(_CHECK, Severity.VIOLATION, f"{evidence}: the claim does not hold")
    return Finding(_CHECK, Severity.SUSPECT, f"{evidence}: repeat with 4 times the lanes")
