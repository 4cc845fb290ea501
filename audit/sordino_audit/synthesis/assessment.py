"""The audit of a synthesis job: probes, white box, and attacks on rows of made-up records.

Nothing here reads a record of anybody: members and strangers are drawn from the public schema. So
the figures on rows are about the code, not about a table that was released.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from sordino_audit.attacks.results import Assumption, AttackResult, attack_result
from sordino_audit.bounds import gaussian
from sordino_audit.conformance import detectable_deficit
from sordino_audit.findings import Finding, ProbeOutcome, Severity, decide
from sordino_audit.probes.chance import FALSE_ALARM
from sordino_audit.probes.suite import observe
from sordino_audit.synthesis.divergence import Divergence
from sordino_audit.synthesis.queries import Design, Synthesizer
from sordino_audit.synthesis.release_probes import COUNTS_WEIGHED
from sordino_audit.synthesis.result import SynthesisAudit, SynthesisDesign
from sordino_audit.synthesis.row_attacks import (
    RowAttacks,
    attack_one_table,
    attack_with_shadows,
    drawn_crowd,
)
from sordino_audit.synthesis.structure import structure
from sordino_audit.synthesis.subject import Release, ReleaseCase, default_cases, measured
from sordino_audit.synthesis.suite import probe_release
from sordino_audit.synthesis.white_box import Readings, WhiteBox, attack, canary_case, judge
from sordino_client.synthesis.generators.dispatch import generate
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import SecureNoise
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.privacy import Guarantee
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.specs import NadeSpec, VaeSpec

Cells = npt.NDArray[np.int32]

_CERTAINTY = 0.999
_POWER = 0.9
_POWERLESS = 0.5
_TIGHT = 0.7
_BLIND_SPOTS = (
    "It attacked the code with made-up records of the job's schema, not a table that was released.",
    (
        "The white box saw marginals at this job's noise. What a fit or a sampler does with noisy"
        " numbers needs no record, and was not attacked."
    ),
    "It says nothing of people with access to a site's own machines, nor of timing.",
)
_UNATTACKED_ROWS = (
    "No attack with shadow releases was run on rows. Of rows that are drawn from noisy marginals"
    " the white box says more; of other generators, ask for it."
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is audited.

    Attributes:
        name: of the job.
        plan: of its releases.
        schema: of its data set.
        delta: of the job's guarantee.
        job_sha256: of the job, if there is one.
    """

    name: str
    plan: SynthesisPlan
    schema: Schema
    delta: float
    job_sha256: str | None = None

    @property
    def claim(self) -> Guarantee:
        """What one release costs, by the ledger."""
        return Guarantee(epsilon_by_pld(self.plan.event, self.delta), self.delta)


@dataclass(frozen=True, slots=True)
class Code:
    """The code that is audited.

    Attributes:
        release: makes marginals.
        synthesize: makes rows; None: the plan's generator.
    """

    release: Release = measured
    synthesize: Synthesizer | None = None


def audit_synthesis(
    subject: Subject, design: SynthesisDesign, *, code: Code | None = None
) -> SynthesisAudit:
    """Audit a synthesis.

    Args:
        subject: the job, its plan and its schema.
        design: how much is done.
        code: what is audited; the product's by default.

    Raises:
        InputError: the generator does not suit the shape.
        ValueError: a design of too few records or releases.
    """
    started = time.process_time()
    code = code or Code()
    rng = np.random.default_rng(design.seed)
    synthesize = code.synthesize or partial(_generated, _as_table(subject.plan, design), rng)
    claim = subject.claim
    probes = _probes(subject, code.release)
    readings = _readings(claim, design, code.release)
    shown = judge(readings, delta=claim.delta, confidence=design.confidence)
    on_rows = _one_table(synthesize, subject, claim, design, rng)
    attacks = _shadows(synthesize, subject, design, rng)
    findings = (
        *_of_probes(probes),
        *_of_white_box(judge(readings, delta=claim.delta, confidence=_CERTAINTY)),
        *_of_attacks(attacks, claim, design),
        *_of_divergences(on_rows.divergences),
    )
    detectable = detectable_deficit(COUNTS_WEIGHED, error=FALSE_ALARM, power=_POWER)
    is_tight = shown.mu_low >= _TIGHT * shown.claimed_mu
    return SynthesisAudit(
        subject=subject.name,
        generator=subject.plan.generator.kind,
        mode=subject.plan.mode,
        verdict=decide(findings, is_powerless=detectable > _POWERLESS, is_tight=is_tight),
        findings=findings,
        claim=claim,
        confidence=design.confidence,
        probes=probes,
        white_box=shown,
        attacks=attacks,
        divergences=on_rows.divergences,
        discriminator=on_rows.discriminator,
        nearest=on_rows.nearest,
        detectable=detectable,
        could_have_found=_power(detectable, design),
        blind_spots=_BLIND_SPOTS if attacks else (*_BLIND_SPOTS, _UNATTACKED_ROWS),
        releases=1 + 2 * (design.shadows + design.judged) * bool(attacks),
        records=design.records,
        seed=design.seed,
        seconds=time.process_time() - started,
    )


def _as_table(plan: SynthesisPlan, design: SynthesisDesign) -> SynthesisPlan:
    """The plan as one site's table of public length, so that every release can be compared."""
    return replace(plan, mode="table", rows=plan.rows or design.records, sites=(), silent=0)


def _generated(plan: SynthesisPlan, rng: np.random.Generator, cells: Cells) -> Cells:
    return generate(plan, cells, noise=SecureNoise(), performance=Performance(), rng=rng)


def _probes(subject: Subject, release: Release) -> tuple[ProbeOutcome, ...]:
    """Of the code on cases with every kind of marginal, and on the job's own marginals."""
    cases = list(default_cases())
    if marginals := subject.plan.released_marginals:
        cases.append(ReleaseCase("this job", subject.plan.shape, marginals))
    return (
        *probe_release(release, cases=cases),
        *observe("structure of releases", partial(structure, schema=subject.schema)),
    )


def _readings(claim: Guarantee, design: SynthesisDesign, release: Release) -> Readings:
    """Of canaries, at the noise that has this claim."""
    multiplier = 1 / gaussian.mu_from_epsilon(claim.epsilon, claim.delta)
    case, canaries = canary_case(noise_multiplier=multiplier)
    return attack(case, canaries, runs=design.runs, release=release)


def _one_table(
    synthesize: Synthesizer,
    subject: Subject,
    claim: Guarantee,
    design: SynthesisDesign,
    rng: np.random.Generator,
) -> RowAttacks:
    crowd = drawn_crowd(domain_of(subject.schema).shape, design.records, rng=rng)
    return attack_one_table(
        synthesize(crowd.members),
        crowd,
        subject.schema,
        claim=claim,
        confidence=design.confidence,
        rng=rng,
        has_discriminator=isinstance(subject.plan.generator, NadeSpec | VaeSpec),
    )


def _shadows(
    synthesize: Synthesizer, subject: Subject, design: SynthesisDesign, rng: np.random.Generator
) -> tuple[AttackResult, ...]:
    if not design.shadows:
        return ()
    shape = domain_of(subject.schema).shape
    amount = Design(
        design.shadows, design.judged, delta=subject.delta, confidence=design.confidence
    )
    return (attack_with_shadows(synthesize, shape, amount, units=design.records, rng=rng),)


def _of_probes(probes: Sequence[ProbeOutcome]) -> Iterator[Finding]:
    for each in probes:
        if not each.is_passed:
            yield Finding(each.name, Severity.VIOLATION, each.message)


def _of_white_box(sure: WhiteBox) -> Iterator[Finding]:
    """Of bounds that are wrong about correct code once in a thousand audits."""
    if sure.mu_low > sure.claimed_mu or sure.p_value < 1 - sure.confidence:
        yield Finding(
            "white box",
            Severity.VIOLATION,
            "releases give a canary away more clearly than the charged noise allows"
            f" (mu at least {sure.mu_low:.3f} at {100 * sure.confidence:g} %, charged"
            f" {sure.claimed_mu:.3f})",
        )


def _of_attacks(
    attacks: Sequence[AttackResult], claim: Guarantee, design: SynthesisDesign
) -> Iterator[Finding]:
    for each in attacks:
        if each.epsilon_low <= claim.epsilon:
            continue
        sure = attack_result(
            each.name,
            each.members,
            each.others,
            assumption=Assumption.INDEPENDENT_RUNS,
            delta=claim.delta,
            confidence=_CERTAINTY,
            rng=np.random.default_rng(design.seed),
        )
        is_sure = sure.epsilon_low > claim.epsilon
        yield Finding(
            each.name,
            Severity.VIOLATION if is_sure else Severity.SUSPECT,
            "synthetic rows give a record away more clearly than was claimed (epsilon at least"
            f" {each.epsilon_low:.2f}, claimed {claim.epsilon:.2f})",
        )


def _of_divergences(found: Sequence[Divergence]) -> Iterator[Finding]:
    """Never more than suspect: the members of one table share its noise."""
    for each in found:
        if each.advantage.low > each.most:
            yield Finding(
                f"divergence of {each.query}",
                Severity.SUSPECT,
                f"rows tell members from strangers by {each.query} better than was claimed"
                f" (advantage at least {each.advantage.low:.2f}, claimed {each.most:.2f})",
            )


def _power(detectable: float, design: SynthesisDesign) -> str:
    found = f"Of secret noise, {100 * detectable:.0f} % too little with probability {_POWER:g}."
    rest = (
        " One unit that moves a release by more than is charged, noise that is missing on any"
        " count, and an odd table that shows in any structure: for certain, where it was tried."
    )
    readings = (
        f" The white box rests on {design.runs:,} readings with a canary and as many without."
    )
    return found + rest + readings
