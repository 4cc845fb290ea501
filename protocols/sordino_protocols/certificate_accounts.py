"""Whether a site charged what its events cost, and no more than its plan: accounting done again.

Privacy loss distributions and Rényi curves, ours and those of another library (`cross_check`): a
site that understates its epsilon is found by the first, a broken accountant by the second.
"""

from collections.abc import Iterator

from sordino_protocols import coins
from sordino_protocols.accounting import epsilon_by_pld, epsilon_by_rdp
from sordino_protocols.bits import unpack_bits
from sordino_protocols.certificate_claims import SiteEvidence, composed
from sordino_protocols.certificate_problems import TOLERANCE, Problem, broken, false
from sordino_protocols.cross_check import AccountantsDisagreeError, check_accountants
from sordino_protocols.errors import InputError
from sordino_protocols.job import Job
from sordino_protocols.messages import Receipt
from sordino_protocols.privacy import Event


def check_accounts(field: str, site: str, evidence: SiteEvidence, job: Job) -> Iterator[Problem]:
    """Problems of what one site charged; its events must be the plan's, see `surplus`.

    Args:
        field: path of the site in the certificate.
        site: its name.
        evidence: what it signed.
        job: the run's job, whose plan is the most that it may charge.
    """
    if evidence.receipt is not None:
        yield from _check_receipt(field, evidence.receipt, evidence.charged, job)
        yield from _check_chain(field, evidence)
        yield from _check_coins(field, site, evidence, evidence.receipt, job)


def _check_receipt(
    field: str, receipt: Receipt, charged: tuple[Event, ...], job: Job
) -> Iterator[Problem]:
    claims, delta = f"{field}.claims", job.file.require_privacy().delta
    if receipt.delta != delta:
        yield false(f"{claims}.delta", f"{receipt.delta:g} is not the job's delta {delta:g}")
    planned = epsilon_by_pld(job.plan.event, delta)
    yield from _not_below(f"{claims}.epsilon_planned", receipt.epsilon_planned, planned)
    if receipt.epsilon_planned > job.file.require_privacy().epsilon * (1 + TOLERANCE):
        yield false(f"{claims}.epsilon_planned", "is more than the job declares")
    whole = composed(charged)
    if whole is None:
        return
    try:
        proven = check_accountants(whole, delta)
    except AccountantsDisagreeError as error:
        yield false(f"{claims}.epsilon_spent_pld", str(error))
        return
    spent_pld, spent_rdp = receipt.epsilon_spent_pld, receipt.epsilon_spent_rdp
    yield from _not_below(f"{claims}.epsilon_spent_pld", spent_pld, proven.epsilon_pld)
    yield from _not_below(f"{claims}.epsilon_spent_rdp", spent_rdp, proven.epsilon_rdp)
    if receipt.epsilon_spent_pld > receipt.epsilon_planned * (1 + TOLERANCE):
        yield false(f"{claims}.epsilon_spent_pld", "is more than was planned")
    if receipt.budget_limit > 0:
        yield from _check_budget(f"{claims}.budget", receipt, whole)


def _check_budget(field: str, receipt: Receipt, whole: Event) -> Iterator[Problem]:
    if not 0 < receipt.budget_delta < 1:
        yield false(f"{field}.delta", "a budget has a delta between 0 and 1")
        return
    least = epsilon_by_rdp(whole, receipt.budget_delta)
    yield from _not_below(f"{field}.spent", receipt.budget_spent, least)
    if receipt.budget_spent > receipt.budget_limit * (1 + TOLERANCE):
        yield false(f"{field}.spent", "is more than the limit")
    if not 0 <= receipt.budget_left <= receipt.budget_limit:
        yield false(f"{field}.left", "is not between nothing and the limit")


def _not_below(field: str, claimed: float, proven: float) -> Iterator[Problem]:
    if claimed < proven * (1 - TOLERANCE):
        yield false(field, f"{claimed:.6g} is understated: what was charged costs {proven:.6g}")


def _check_chain(field: str, evidence: SiteEvidence) -> Iterator[Problem]:
    """The admission appended at least a hold, and settling at least one more entry."""
    if evidence.receipt is None:
        return
    before, after = evidence.admission.ledger_head, evidence.receipt.ledger_head
    appended = len(evidence.charged) + 1
    if after.length < before.length + appended:
        yield broken(
            f"{field}.claims.ledger_settled",
            f"the ledger went from {before.length} to {after.length} entries; the run appended at"
            f" least {appended}",
        )


def _check_coins(
    field: str, site: str, evidence: SiteEvidence, receipt: Receipt, job: Job
) -> Iterator[Problem]:
    try:
        opened = unpack_bits(receipt.coins, job.plan.lanes)
        salt = bytes.fromhex(receipt.coins_salt)
    except (InputError, ValueError):
        yield broken(f"{field}.receipt", "the canaries' coins cannot be read")
        return
    inserted = [bool(coin) for coin in opened]
    commitment = evidence.admission.coins_commitment
    if not coins.matches(commitment, inserted, salt=salt, run_id=receipt.run_id, site=site):
        yield broken(f"{field}.receipt", "the coins are not those that the admission committed to")
