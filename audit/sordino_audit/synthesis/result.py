"""The outcome of an audit of a synthesis, and how much was done for it."""

from dataclasses import dataclass

from sordino_audit.attacks.results import AttackResult
from sordino_audit.findings import Finding, ProbeOutcome, Verdict
from sordino_audit.synthesis.divergence import Divergence
from sordino_audit.synthesis.nearest import NearestRecords
from sordino_audit.synthesis.white_box import WhiteBox
from sordino_protocols.errors import ExitCode
from sordino_protocols.privacy import Guarantee


@dataclass(frozen=True, slots=True)
class SynthesisDesign:
    """How much an audit of a synthesis does.

    Attributes:
        runs: readings of the white-box attack with a canary, and as many without.
        shadows: whole releases to learn from, with the target and as many without; 0 for no attack
            on rows.
        judged: whole releases to judge on, with the target and as many without.
        records: made-up members of a release, and as many strangers.
        confidence: of every bound.
        seed: of everything that is drawn but the noise.
    """

    runs: int = 40_000
    shadows: int = 0
    judged: int = 0
    records: int = 400
    confidence: float = 0.95
    seed: int = 1


@dataclass(frozen=True, slots=True)
class SynthesisAudit:
    """What was found.

    Attributes:
        subject: the job.
        generator: its kind.
        mode: of the synthesis.
        verdict: the outcome.
        findings: what should not be.
        claim: what one release costs, by the ledger.
        confidence: of every bound.
        probes: of the code that makes releases, and of the structure of what leaves.
        white_box: of the release of marginals, at this job's noise.
        attacks: on synthetic rows.
        divergences: what rows say of members and of strangers, by attribute.
        discriminator: AUC of a discriminator against a neural generator; None for others.
        nearest: the diagnostic that nothing rests on.
        detectable: smallest share of missing noise that the probes would have found.
        could_have_found: what this audit could have found, in words.
        blind_spots: what it could not have seen, a sentence each.
        releases: how many whole releases were made.
        records: made-up members of each.
        seed: of the audit's own choices.
        seconds: of CPU.
    """

    subject: str
    generator: str
    mode: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    claim: Guarantee
    confidence: float
    probes: tuple[ProbeOutcome, ...]
    white_box: WhiteBox
    attacks: tuple[AttackResult, ...]
    divergences: tuple[Divergence, ...]
    discriminator: float | None
    nearest: NearestRecords
    detectable: float
    could_have_found: str
    blind_spots: tuple[str, ...]
    releases: int
    records: int
    seed: int
    seconds: float

    @property
    def exit_code(self) -> ExitCode:
        """What the command that ran the audit ends with."""
        return self.verdict.exit_code
