"""The self-test: every probe, on this machine, with this version and this site's settings.

It runs where the vault would run, needs no network, no records and no configuration, and takes
seconds. A vault starts only with a self-test that passed for its version and settings.
"""

import time
from dataclasses import dataclass
from functools import partial

from sordino_audit.conformance import detectable_deficit
from sordino_audit.findings import ProbeOutcome, Verdict
from sordino_audit.probes import (
    accounting,
    fields,
    server_probes,
    site_probes,
    source_probes,
    table_probes,
)
from sordino_audit.probes.chance import FALSE_ALARM
from sordino_audit.probes.found import Found
from sordino_audit.probes.randomness import ROUNDS
from sordino_audit.probes.site_runs import run_trials
from sordino_audit.probes.suite import default_cases, observe, run_probes
from sordino_audit.probes.trainer import Trainer, engine
from sordino_audit.probes.trial_site import SiteMaker, product_site, table_job, trial_job
from sordino_audit.synthesis.structure import structure
from sordino_audit.synthesis.subject import Release, measured
from sordino_audit.synthesis.suite import probe_release
from sordino_client.self_test_record import fingerprint
from sordino_client.training.arithmetic import Performance
from sordino_protocols.errors import ExitCode

_POWER = 0.9


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What a self-test showed.

    Attributes:
        outcomes: of every probe.
        fingerprint: of the code and the settings that were tested.
        seconds: CPU time.
        verdict: `VIOLATION` if a probe failed, else `LOOSE`: nothing contradicts the claim.
        could_have_found: what a silence of these probes is worth.
    """

    outcomes: tuple[ProbeOutcome, ...]
    fingerprint: str
    seconds: float
    verdict: Verdict
    could_have_found: str

    @property
    def exit_code(self) -> ExitCode:
        """What the command that ran it ends with."""
        return self.verdict.exit_code


def self_test(
    performance: Performance,
    *,
    trainer: Trainer = engine,
    make_site: SiteMaker = product_site,
    release: Release = measured,
) -> SelfTest:
    """Probe trainer, releases of marginals, site, noise, server and accountants.

    Correct code fails with probability below 1 in 100,000: all random probes together.

    Args:
        performance: of the site. With `compile` the first test of a version takes seconds more.
        trainer: what trains; the product's.
        make_site: makes the sites that are tried out; the product's.
        release: what makes marginals; the product's.
    """
    started = time.process_time()
    cases = default_cases(performance)
    outcomes = (
        *run_probes(trainer, cases=cases),
        *probe_release(release),
        *observe("structure of releases", structure),
        *_site_outcomes(performance, make_site),
        *observe("repeated draws", source_probes.repeats),
        *observe("float attack", partial(source_probes.float_attack, cases[0])),
        *observe("fields of every message", fields.message_fields),
        *observe("what the server divides by", _normaliser),
        *observe("accountants", accounting.accountants),
    )
    has_failed = any(not outcome.is_passed for outcome in outcomes)
    return SelfTest(
        outcomes=outcomes,
        fingerprint=fingerprint(performance),
        seconds=time.process_time() - started,
        verdict=Verdict.VIOLATION if has_failed else Verdict.LOOSE,
        could_have_found=_power(cases[0].length),
    )


def _site_outcomes(performance: Performance, make_site: SiteMaker) -> tuple[ProbeOutcome, ...]:
    with run_trials(performance, make_site) as trials:
        outcomes = observe("a site's answers", partial(site_probes.answers, *trials))
        if outcomes[0].is_passed:
            for name, probe in site_probes.OF_A_RUN.items():
                outcomes += observe(name, partial(probe, *trials))
    with run_trials(performance, make_site, job=table_job()) as trials:
        tables = observe("a site's answers to a synthesis", partial(table_probes.answers, *trials))
        if tables[0].is_passed:
            for name, probe in table_probes.OF_A_SYNTHESIS.items():
                tables += observe(name, partial(probe, *trials))
    scale = observe("size of a site's data set", partial(site_probes.site_scale, performance))
    return (*outcomes, *tables, *scale)


def _normaliser() -> Found:
    return server_probes.normaliser(trial_job().plan.require_training())


def _power(length: int) -> str:
    """What the probes would have found, in a sentence."""
    deficit = detectable_deficit(ROUNDS * length, error=FALSE_ALARM, power=_POWER)
    return (
        "On made-up records: a unit, record or layer that moves a step by more than the clipping"
        " norm (1 part in 1e9), or marginals by more than is charged; noise that is missing or off"
        " by 1 part in 1e4 on any coordinate,"
        " in any of five cases; an undeclared field; a scale that depends on how many records there"
        f" are. Of secret noise, {100 * deficit:.0f} % too little with probability .9. Not seen:"
        " code that behaves otherwise on other data or models, and the operating system's"
        " randomness."
    )
