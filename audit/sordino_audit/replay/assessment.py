"""The verdict on a replay, and what it could have found.

The tests against the claim share one error, as those of the lanes do: with k tests each is run at
1/k of it, so at most 1 in 1,000 replays of code that keeps its promise is a `VIOLATION`, and at
most 1 in 100 is that or `SUSPECT`.
"""

from collections.abc import Sequence

from sordino_audit.findings import Finding, Severity, decide
from sordino_audit.lane_bounds import Bound
from sordino_audit.lane_tests import Test
from sordino_audit.lanes import POWERLESS_DEFICIT, SUSPECT_ERROR, TIGHT_SHARE, VIOLATION_ERROR
from sordino_audit.preregistration import POWER
from sordino_audit.replay.judging import (
    Claim,
    bounds_of,
    claim_of,
    detectable_deficit,
    findable_share,
    layer_noise,
    membership_test,
    noise_test,
    result_of,
    surplus_test,
)
from sordino_audit.replay.leaks import checkpoint_leaks, kind_leaks
from sordino_audit.replay.observation import Observation
from sordino_audit.replay.plan import ReplayPlan
from sordino_audit.replay.portfolio import Scored, World, attack_world
from sordino_audit.replay.result import ReplayAudit

_LEAST_P = 1e-300
"""What is smaller rounds to 0, which no p-value is."""

_Attacked = tuple[World, tuple[Scored, ...]]
_Bounds = tuple[Bound, ...]


def assess(plan: ReplayPlan, worlds: Sequence[World]) -> ReplayAudit:
    """Attack the federations of a replay and judge what was found; `seconds` is left at 0."""
    design, training = plan.design, plan.job.plan.require_training()
    claim = claim_of(training, plan.job.file.guarantee)
    attacked = [(world, attack_world(world)) for world in worlds]
    judged = [each for world in worlds for each in world.judged]
    noisy = judged if training.update == "sum" else []
    tests = _tests(attacked, noisy, claim, has_known_sums=_has_known_sums(plan))
    findings = _findings(tests)
    error = VIOLATION_ERROR / len(tests)
    share = findable_share(worlds[0].coins.size, claim, error=error)
    deficit = detectable_deficit(noisy, error=error)
    bounds = _bounds(attacked, claim, confidence=design.confidence)
    strongest = _strongest(list(bounds.values()))
    return ReplayAudit(
        verdict=decide(
            findings,
            is_powerless=share is None and deficit > POWERLESS_DEFICIT,
            is_tight=strongest[0].epsilon_low >= TIGHT_SHARE * claim.ceiling,
        ),
        findings=findings,
        claim=claim.guarantee,
        confidence=design.confidence,
        bounds=strongest,
        ceiling=claim.ceiling,
        tests=tests,
        attacks=tuple(
            result_of(each, world.coins, bounds[each.name][0], confidence=design.confidence)
            for world, attacks in attacked
            for each in attacks
        ),
        checkpoints=tuple(leak for world in worlds for leak in checkpoint_leaks(plan, world)),
        kinds=tuple(leak for one in attacked for leak in kind_leaks(plan, *one)),
        noise=layer_noise(noisy, confidence=design.confidence),
        federations=len(worlds) * design.federations,
        sites=design.sites,
        rounds=training.rounds,
        canaries=len(design.kinds),
        poisons=design.poisons,
        records=_origin(plan),
        seed=design.seed,
        plan_sha256=plan.digest(),
        seconds=0.0,
        detectable=deficit,
        could_have_found=_could_have_found(worlds[0].coins.size, share, deficit),
        blind_spots=_blind_spots(plan),
    )


def _tests(
    attacked: Sequence[_Attacked],
    noisy: Sequence[Observation],
    claim: Claim,
    *,
    has_known_sums: bool,
) -> tuple[Test, ...]:
    tests = [
        membership_test(each, world.coins, claim) for world, attacks in attacked for each in attacks
    ]
    if noisy:
        tests.append(noise_test(noisy))
    if has_known_sums:
        tests.append(surplus_test(noisy))
    return tuple(tests)


def _has_known_sums(plan: ReplayPlan) -> bool:
    """Whether nothing about a release is random but its noise."""
    training, declared = plan.job.plan.require_training(), plan.schema.dataset
    takes_all = training.unit == "record" or (
        declared.max_records_per_unit <= training.records_per_unit
    )
    return (
        training.update == "sum"
        and training.local_steps == 1
        and training.sampling_rate == 1
        and training.augmentation is None
        and takes_all
    )


def _findings(tests: Sequence[Test]) -> tuple[Finding, ...]:
    found = []
    for test in tests:
        corrected = min(1.0, test.p_value * len(tests))
        if corrected <= SUSPECT_ERROR:
            severity = test.worst if corrected <= VIOLATION_ERROR else Severity.SUSPECT
            message = f"{test.message} (corrected p-value {max(corrected, _LEAST_P):.1g})"
            found.append(Finding(test.name, severity, message))
    return tuple(found)


def _bounds(
    attacked: Sequence[_Attacked], claim: Claim, *, confidence: float
) -> dict[str, _Bounds]:
    """By attack; all of them hold together with `confidence` (Bonferroni)."""
    count = sum(len(attacks) for _, attacks in attacked)
    shared = 1 - (1 - confidence) / count
    return {
        each.name: bounds_of(each, world.coins, delta=claim.guarantee.delta, confidence=shared)
        for world, attacks in attacked
        for each in attacks
    }


def _strongest(bounds: Sequence[_Bounds]) -> _Bounds:
    """Of each assumption the highest bound: they hold together, so the highest does."""
    return tuple(
        max(same, key=lambda bound: bound.epsilon_low) for same in zip(*bounds, strict=True)
    )


def _origin(plan: ReplayPlan) -> str:
    if plan.dataset is None:
        return "made up from the public schema"
    if plan.stays_below is not None:
        return "the site's own members; nothing of this replay leaves the site"
    return f"public: {plan.design.published}"


def _could_have_found(canaries: int, share: float | None, deficit: float) -> str:
    guesses = (
        f"It would have contradicted the claim had {share:.1%} of {canaries} guesses been right."
        if share is not None
        else f"Not even {canaries} right guesses of {canaries} would have contradicted the claim."
    )
    noise = (
        f" It would have noticed, with probability {POWER:.0%}, if {deficit:.1%} or more of the "
        "noise had been missing in the model's own coordinates."
        if deficit < 1
        else " No lack of noise in the model's own coordinates would have been noticed."
    )
    return guesses + noise


def _blind_spots(plan: ReplayPlan) -> tuple[str, ...]:
    """What this replay could not have seen, a sentence each."""
    training = plan.job.plan.require_training()
    spots = [
        (
            "It ran the code of this installation. Whether the sites of the run had the same code "
            "was not checked: their lanes say what ran there."
        ),
        (
            f"The records were {_origin(plan)}; canaries of other kinds than "
            f"{', '.join(plan.design.canaries)} may stand out more."
        ),
        "It attacked the model and its updates, not the noisy evaluation or noisy statistics.",
    ]
    if training.update == "delta":
        spots.append(
            "Sites release what their steps changed, which is no plain sum: the noise in the "
            "model's own coordinates was not measured."
        )
    elif training.local_steps > 1 or training.sampling_rate < 1:
        spots.append(
            "Which records a step drew is not known to the attacker: it hides a part of a lack of "
            "noise in the model's own coordinates, and whether they are clipped as planned."
        )
    return tuple(spots)
