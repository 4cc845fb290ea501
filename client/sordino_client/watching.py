"""What a site's metrics read when somebody looks."""

from sordino_client.approval_desk import ApprovalDesk
from sordino_client.ledger import Ledger
from sordino_client.metrics import SiteMetrics
from sordino_client.site import Site


def watch_site(metrics: SiteMetrics, site: Site, ledger: Ledger, desk: ApprovalDesk) -> None:
    """Show budgets, ledger, policy and what waits for people as they are then."""
    metrics.watch_ledger(lambda: ledger.length)
    metrics.watch_budgets(site.balances)
    metrics.watch_policy(site.policy_sha256)
    metrics.watch_people(halted=lambda: ledger.halted is not None, waiting=desk.waiting)
