"""What a replay says."""

from dataclasses import dataclass

from sordino_audit.attacks.results import AttackResult
from sordino_audit.findings import Finding, Interval, Verdict
from sordino_audit.lane_bounds import Bound
from sordino_audit.lane_tests import Test
from sordino_audit.replay.plan import CanaryKind
from sordino_protocols.errors import ExitCode
from sordino_protocols.privacy import Guarantee


@dataclass(frozen=True, slots=True)
class CheckpointLeak:
    """What the aggregated model gave away of the canaries, before some round.

    Attributes:
        poisons: of each canary, at another site.
        round: rounds done; the last one stands for the released model.
        auc: of the likelihood ratio attack.
        tpr_at: pairs (false positive rate, true positive rate) on the step ROC.
        exposure: mean over inserted canaries, in bits (Carlini et al. 2019); 1.44 if the model
            remembers nothing, for many strangers.
        exposure_out: the same over canaries that were not inserted.
    """

    poisons: int
    round: int
    auc: float
    tpr_at: tuple[tuple[float, float], ...]
    exposure: float
    exposure_out: float


@dataclass(frozen=True, slots=True)
class KindLeak:
    """How well canaries of one kind are told.

    Attributes:
        kind: of canary.
        poisons: of each, at another site.
        canaries: in all judged federations.
        auc: of the likelihood ratio attack on the released model.
        auc_gradients: of the attack on the site's own releases.
    """

    kind: CanaryKind
    poisons: int
    canaries: int
    auc: float
    auc_gradients: float


@dataclass(frozen=True, slots=True)
class ReplayAudit:
    """The result of one replay.

    Attributes:
        verdict: the outcome.
        findings: what should not be; empty unless the verdict is `VIOLATION` or `SUSPECT`.
        claim: the claimed guarantee.
        confidence: of every bound.
        bounds: lower bounds on epsilon at the claim's delta, weakest assumption first.
        ceiling: the epsilon of all training steps together: what the best attack could show.
        tests: all tests that ran, with uncorrected p-values.
        attacks: on the released model and on releases, world after world.
        checkpoints: leaks of the aggregated model over the rounds, world after world.
        kinds: of canaries, world after world.
        noise: what is left of the target's releases in each layer's real coordinates, over the
            claimed noise; empty where a release is no plain sum.
        federations: how many were run.
        sites: of each.
        rounds: of each.
        canaries: that were inserted or not, in each federation.
        poisons: of each canary in the second world; 0 without one.
        records: where they are from, in words.
        seed: of the design.
        plan_sha256: of the plan.
        seconds: CPU time of this call; the work of a cluster is not in it.
        detectable: smallest fraction of missing noise that the noise test would have found; 1 for
            none.
        could_have_found: what this replay could have found, in words.
        blind_spots: what it could not have seen, a sentence each.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    claim: Guarantee
    confidence: float
    bounds: tuple[Bound, ...]
    ceiling: float
    tests: tuple[Test, ...]
    attacks: tuple[AttackResult, ...]
    checkpoints: tuple[CheckpointLeak, ...]
    kinds: tuple[KindLeak, ...]
    noise: tuple[Interval, ...]
    federations: int
    sites: int
    rounds: int
    canaries: int
    poisons: int
    records: str
    seed: int
    plan_sha256: str
    seconds: float
    detectable: float
    could_have_found: str
    blind_spots: tuple[str, ...]

    @property
    def lower_bound(self) -> float:
        """The bound that assumes the least."""
        return self.bounds[0].epsilon_low

    @property
    def exit_code(self) -> ExitCode:
        """What the command that ran the audit ends with."""
        return self.verdict.exit_code
