"""A site's refusal as a person should read it: what, the rule, the line of the job, what to do.

A site says one word, and the rule of its policy that decided. Everything else is known here. Each
word has a reference that stays what it is, so that it can be looked up and searched for: E03 and
two digits for what a policy or a state refuses, E0412 for a budget that does not suffice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sordino_client.policy_summary import job_place
from sordino_protocols.messages import Refusal
from sordino_protocols.refusals import REFUSAL_WORDS


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a refusal means.

    Attributes:
        reference: stable: E and four digits, the first two of them the exit code.
        why: what the site says by it.
        help: what to do.
    """

    reference: str
    why: str
    help: str


_EXHAUSTED = "E0412"
_ASK = "ask the site's admin"
_BUG = "tell the site's admin; its own log says what"

_TO_DO: Mapping[Refusal, tuple[str, str]] = MappingProxyType(
    {
        Refusal.MALFORMED: ("E0301", "update the older of server and site"),
        Refusal.UNAUTHENTICATED: ("E0302", f"{_ASK} to trust your key: sordino site trust"),
        Refusal.NOT_ADMITTED: ("E0303", "submit the job anew"),
        Refusal.CHANGED_REPLAY: ("E0304", "submit the job anew"),
        Refusal.WRONG_SHAPE: ("E0305", "bring weights of the job's model"),
        Refusal.NOT_FINITE: ("E0306", "lower optimizer.learning_rate"),
        Refusal.NO_POLICY: ("E0307", f"{_ASK} to write one"),
        Refusal.FORBIDDEN_BY_POLICY: ("E0308", f"change the job, or {_ASK}"),
        Refusal.APPROVAL_PENDING: ("E0309", "wait, or call them"),
        Refusal.REJECTED: ("E0310", f"{_ASK} why"),
        Refusal.WRONG_TASK: ("E0311", "choose the loss that fits roles.task"),
        Refusal.UNTRAINABLE: ("E0312", "sordino model check"),
        Refusal.UNKNOWN_DATASET: ("E0313", "name the sites that have it in cohort.sites"),
        Refusal.UNPRICEABLE: ("E0314", _BUG),
        Refusal.ACCOUNTANTS_DISAGREE: ("E0315", "sordino job check says where"),
        Refusal.OUT_OF_ORDER: ("E0316", "submit the job anew"),
        Refusal.INTEGRITY: ("E0317", f"{_ASK}: sordino ledger verify"),
        Refusal.INTERNAL: ("E0318", "tell the site's admin"),
        Refusal.UNAVAILABLE: ("E0319", "wait; it is asked again"),
        Refusal.BUDGET_EXHAUSTED: (
            _EXHAUSTED,
            "lower privacy.epsilon, or ask the site's admin to raise its budget",
        ),
    }
)

EXPLANATIONS: Mapping[Refusal, Explanation] = MappingProxyType(
    {
        refusal: Explanation(reference, REFUSAL_WORDS[refusal], what_to_do)
        for refusal, (reference, what_to_do) in _TO_DO.items()
    }
)
"""Every refusal, in the order of the references."""


def refusal_text(row: Mapping[str, object], job: Path) -> str:
    """An error of several lines about one site's quote.

    Args:
        row: of `price_rows`, with a refusal.
        job: the job's file, whose line the rule is about.
    """
    found = explain(str(row["refusal"]))
    lines = [f"error[{found.reference}]: {row['site']} refused this job: {found.why}"]
    if rule := str(row.get("rule") or ""):
        lines.append(f"  rule   {rule}")
    if found.reference == _EXHAUSTED:
        lines.append(f"  job    {job_place('max_epsilon', job)}")
        lines.append(
            f"  costs  epsilon {_number(row, 'epsilon_rdp')}, of which"
            f" {_number(row, 'budget_left')} is left"
        )
        lines += _fitting(row)
    elif rule:
        lines.append(f"  job    {job_place(rule, job)}")
    return "\n".join([*lines, f"  help   {found.help}"])


def names_a_refusal(reason: str) -> bool:
    """Whether the reason of a run that failed says of a site that it refused."""
    return any(f": {refusal.value}, " in reason for refusal in Refusal)


def explain(refusal: str) -> Explanation:
    """What a refusal means; one that is unknown here, of a newer site, has the reference E0300."""
    for known, explanation in EXPLANATIONS.items():
        if known.value == refusal:
            return explanation
    return Explanation("E0300", refusal, _ASK)


def _fitting(row: Mapping[str, object]) -> list[str]:
    if rounds := row.get("rounds_that_fit"):
        noise = _number(row, "noise_that_fits")
        return [f"  fits   {rounds} rounds with this noise; all of them with noise {noise}"]
    return []


def _number(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    return f"{value:.4g}" if isinstance(value, int | float) else "-"
