"""What an audit tells a reader without mathematics: its outcome, and what it could not have seen.

Words that an audit cannot answer for do not occur here: nothing is ever called safe, private or
proved. An audit finds a broken promise, or finds none, and says how hard it looked.
"""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from sordino_audit.audit_document import AuditDocument, Kind
from sordino_audit.bounds.trade_off import guarantee_curve
from sordino_audit.findings import Finding, ProbeOutcome, Verdict
from sordino_audit.inference.result import InferenceAudit
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

TITLES: Mapping[Verdict, str] = {
    Verdict.VIOLATION: "Promise broken",
    Verdict.SUSPECT: "Suspect: repeat",
    Verdict.INCONCLUSIVE: "Inconclusive",
    Verdict.TIGHT: "Nothing contradicts the promise, and the attack came close to its limit",
    Verdict.LOOSE: "Nothing contradicts the promise",
}
"""The verdict of an audit of a promise as a headline."""

_TITLES_OF_INFERENCE: Mapping[Verdict, str] = {
    **TITLES,
    Verdict.SUSPECT: "The model gives away more than was thought acceptable",
    Verdict.LOOSE: "The model gives away no more than was thought acceptable",
}

_NEXT: Mapping[Verdict, str] = {
    Verdict.VIOLATION: (
        "Do not use or publish the model; the server hands it out no more. Keep this file, find "
        "the fault, and audit a new run after it is mended. What was released cannot be taken "
        "back: treat the promise as not kept."
    ),
    Verdict.SUSPECT: (
        "Run the job again with four times the canary lanes and audit that run. Chance alone "
        "gives this verdict to at most one in a hundred runs that keep their promise."
    ),
    Verdict.INCONCLUSIVE: (
        "Nothing follows from this audit, neither good nor bad. More canaries or more rounds make "
        "the next one stronger."
    ),
    Verdict.TIGHT: (
        "Nothing has to be done. The attack came so close to the most that it could have shown "
        "that the promise cannot be much stronger than stated, either."
    ),
    Verdict.LOOSE: (
        "Nothing has to be done. What the audit could and could not have found is said below: an "
        "attack that finds nothing is evidence, and never a certainty."
    ),
}
_NEXT_FOR_CODE: Mapping[Verdict, str] = {
    **_NEXT,
    Verdict.VIOLATION: (
        "Do not run a site with this code. Its vault does not start. Look at the failed checks, "
        "install a version that passes, and audit the runs that this one took part in."
    ),
}
_NEXT_FOR_INFERENCE: Mapping[Verdict, str] = {
    **_NEXT,
    Verdict.SUSPECT: (
        "No promise was broken. Decide, with those whom the data are about in mind, whether this "
        "attribute may be guessed so well, and leave columns out of the job if not."
    ),
}
_NEXT_FOR_REPLAY: Mapping[Verdict, str] = {
    **_NEXT,
    Verdict.VIOLATION: (
        "Do not run this job with this version of the software. Keep this file, find the fault, "
        "and audit the runs that were made with it."
    ),
    Verdict.SUSPECT: "Replay the job again with four times the federations.",
}
_NEXT_FOR_SYNTHESIS: Mapping[Verdict, str] = {
    **_NEXT,
    Verdict.VIOLATION: (
        "Do not synthesize with this version of the software, and withdraw what was published of "
        "its tables. Keep this file, find the fault, and audit again."
    ),
    Verdict.SUSPECT: "Audit again with four times the records or releases, and another seed.",
}

_FIGURES = re.compile(r" \([^()]*\)$")
_LIKELY = 0.01
_SHOWN_FINDINGS = 3


def plain_verdict(verdict: Verdict, findings: Sequence[Finding], *, power: str) -> str:
    """The outcome in words.

    Args:
        verdict: the outcome.
        findings: of the audit.
        power: what it could have found, a sentence.
    """
    match verdict:
        case Verdict.VIOLATION:
            return f"The promise was broken: {_worst(verdict, findings)}"
        case Verdict.SUSPECT:
            return (
                "Something is odd. Repeat the audit with four times the canaries before anybody "
                f"relies on this. What it looks like: {_worst(verdict, findings)}"
            )
        case Verdict.INCONCLUSIVE:
            return (
                "The attack found nothing, but was too weak to find even a gross fault: "
                "its silence means nothing."
            )
        case Verdict.TIGHT | Verdict.LOOSE:
            return f"The attack found no more than was promised. {power}"


def promise(epsilon: float, delta: float) -> str:
    """What the guarantee means to one person, without mathematics.

    The most powerful attack on an (epsilon, delta) guarantee at 1 % false accusations
    (Kairouz et al. 2015, thm. 2.1).
    """
    curve = guarantee_curve(Guarantee(epsilon, delta))
    caught = 1 - float(curve(np.array(_LIKELY)))
    return (
        "Whoever sees all that a site has released, and knows everything about a person but "
        "whether the site's records include them, cannot find that out reliably: an attacker who "
        f"wrongly accuses 1 person in 100 recognises at most {_out_of_hundred(caught)} of those "
        "who were really included."
    )


def title_of(kind: Kind, verdict: Verdict) -> str:
    """The verdict as a headline."""
    return _TITLES_OF_INFERENCE[verdict] if kind == "inference" else TITLES[verdict]


def as_sentence(text: str) -> str:
    """With a capital letter and one full stop, whoever wrote it."""
    return _ended(f"{text[:1].upper()}{text[1:]}")


def next_step(kind: Kind, verdict: Verdict) -> str:
    """What the reader of an audit should do now."""
    match kind:
        case "self-test":
            return _NEXT_FOR_CODE[verdict]
        case "replay":
            return _NEXT_FOR_REPLAY[verdict]
        case "inference":
            return _NEXT_FOR_INFERENCE[verdict]
        case "synthesis":
            return _NEXT_FOR_SYNTHESIS[verdict]
        case "run" | "site":
            return _NEXT[verdict]


def tested_verdict(outcomes: Sequence[ProbeOutcome]) -> str:
    """The outcome of a test of code in words."""
    failed = [each for each in outcomes if not each.is_passed]
    if not failed:
        return (
            f"All {len(outcomes)} checks of this installation passed: on synthetic records, "
            "nothing left it that had not been clipped, noised and accounted for as declared."
        )
    shown = "; ".join(f"{each.name}: {each.message}" for each in failed[:_SHOWN_FINDINGS])
    return (
        f"{len(failed)} of {len(outcomes)} checks failed, so this installation does not do what "
        f"it promises: {_ended(shown)} Do not let it near a record."
    )


def inferred_verdict(audit: InferenceAudit) -> str:
    """The outcome of an audit of inference in words."""
    guessed = (
        f"Who has the model guesses {audit.target} right for {audit.right:.0%} of targets; who "
        f"never saw it, for {audit.baseline:.0%}."
    )
    match audit.verdict:
        case Verdict.SUSPECT | Verdict.VIOLATION:
            return (
                f"{guessed} That is more than the {audit.tolerance:.0%} that was thought "
                "acceptable. Differential privacy does not forbid it: it protects whether "
                "somebody took part, not what holds for everybody like them."
            )
        case Verdict.INCONCLUSIVE:
            return f"{guessed} That is too few guesses to say anything."
        case Verdict.TIGHT | Verdict.LOOSE:
            return f"{guessed} The model adds no more than was thought acceptable."


def bound_in_words(document: AuditDocument) -> str:
    """The lower bound beside the claim, in one line; what was audited where there is no claim."""
    if document.claimed is None:
        return document.power.sentence
    if document.lower_bound is None:
        return f"no lower bound on epsilon; claimed {document.claimed:g}"
    return (
        f"lower bound on epsilon {document.lower_bound:.3f} at "
        f"{100 * document.confidence:g}% confidence; claimed {document.claimed:g}"
    )


def unseen_by_server(
    plan: TrainingPlan,
    *,
    sites: int,
    left_out: Sequence[str],
    claimed: float,
    ceiling: float,
) -> list[str]:
    """What an audit of the server's view could not have seen, a sentence each.

    Args:
        plan: of the run.
        sites: number of those whose lanes were read.
        left_out: names of those that took part and could not be audited.
        claimed: epsilon.
        ceiling: the largest epsilon that the view could have shown.
    """
    return [
        (
            f"It saw what the server saw: {plan.rounds} noisy updates from each of {sites} "
            f"{'site' if sites == 1 else 'sites'}. Of the claimed epsilon of "
            f"{claimed:.2f}, this view can show at most {ceiling:.2f}."
        ),
        *(
            f"Site {each} took part and was not audited: it missed a round, or opened no coins "
            "that fit what it had committed to. Nothing is known of it."
            for each in left_out
        ),
        "A site that treats canary lanes unlike the model's own coordinates would not be noticed.",
        *_unseen_of_plan(plan),
        (
            "It read every site's updates by themselves. Their sum over all sites, and the model "
            "that was made of it, show less of one canary and were not attacked."
        ),
        *_UNATTACKED,
    ]


def unseen_at_site(plan: TrainingPlan, *, rounds_seen: int) -> list[str]:
    """What an audit of a site's own view could not have seen, a sentence each.

    Args:
        plan: of the run.
        rounds_seen: how many rounds the site noted.
    """
    return [
        (
            f"It saw every step of {rounds_seen} of the run's {plan.rounds} rounds, and which "
            "canaries were drawn. Nobody outside the site has that view."
        ),
        (
            "It believes what the site's own software wrote down of each step: which canaries "
            "were drawn, and what noise was added. Whoever can rewrite that software can rewrite "
            "this."
        ),
        (
            "A step was attacked, and all steps were put together by computation, with as many "
            "steps as the plan has and its sampling rate."
        ),
        (
            "A trainer that treats canary lanes unlike the model's own coordinates would not be "
            "noticed by the lanes; the noise of each layer was compared with the claim, too."
        ),
        *_unseen_of_plan(plan),
        *_UNATTACKED,
    ]


UNSEEN_BY_SELF_TEST: Sequence[str] = (
    "It tested the code and the settings of one installation on synthetic records. It saw no run.",
    (
        "Whoever replaces the code after this test has not been tested. The vault compares the "
        "code with the tested one when it starts, not while it works."
    ),
    "Of a fault that shows only at sizes or models which were not tried, it says nothing.",
    "It says nothing of people with access to the machine, nor of timing.",
)
"""What a self-test could not have seen."""

_UNATTACKED: Sequence[str] = (
    (
        "It attacked the model updates, not the noisy evaluation or noisy statistics of "
        "features, whose cost is accounted for but was not attacked."
    ),
    "It says nothing of people with access to a site's own machines, nor of timing.",
)


def _unseen_of_plan(plan: TrainingPlan) -> list[str]:
    """What lanes do not show of this plan."""
    sentences = []
    if plan.unit == "entity":
        sentences.append(
            "A canary is an entity with nothing but its lane: whether a site groups records into "
            "entities as it declares, and draws no more of each than it may, was not checked."
        )
    if plan.update == "delta":
        sentences.append(
            "Lanes are released as noisy sums. That the change of the model was made from the same "
            "noisy sums, and from nothing else, was not checked."
        )
    match plan.clipping.kind:
        case "adaptive":
            sentences.append(
                "Noise was measured against the published clipping norm of each round. No canary "
                "touches the coordinate that moves this norm: whether sites count honestly there "
                "was not checked."
            )
        case "per_layer" | "normalized":
            sentences.append(
                "A canary weighs the same in every layer: how gradients whose layers differ are "
                "clipped was not checked."
            )
        case "flat":
            pass
    return sentences


def _worst(verdict: Verdict, findings: Sequence[Finding]) -> str:
    """The worst finding without its figures, which stand among the findings; and how many more."""
    worst = [each.message for each in findings if each.severity.value == verdict.value]
    plain = _FIGURES.sub("", worst[0]).rstrip(" .") if worst else "see the findings"
    match len(worst) - 1:
        case 0 | -1:
            return f"{plain}."
        case 1:
            return f"{plain}. There is one more finding."
        case more:
            return f"{plain}. There are {more} more findings."


def _out_of_hundred(share: float) -> str:
    return f"{math.ceil(share * 100)} in 100" if share < 1 else "all"


def _ended(sentence: str) -> str:
    """With one full stop, whoever wrote it."""
    return f"{sentence.rstrip(' .')}."
