"""What a vault needs in order to work, as checks. All of them are public facts.

The vault has no network: the link asks for them with the status, and tells whoever watches.
"""

from collections.abc import Callable, Mapping

from sordino_client.config import SiteConfig
from sordino_client.ledger_location import is_ledger_at_head
from sordino_client.reload import Reloader
from sordino_client.self_test_record import is_tested
from sordino_client.site import Site
from sordino_client.watching import LedgerWatch
from sordino_protocols.health import Checks, Finding
from sordino_protocols.host_checks import Clock, writable

_SECONDS = 1.0


def vault_checks(
    config: SiteConfig,
    site: Site,
    watch: LedgerWatch,
    reloader: Reloader,
    *,
    network_cut_off: bool,
) -> Checks:
    """Everything without which the vault answers nothing, or should not.

    Args:
        config: of the site.
        site: whose ledger and policy count.
        watch: of the ledger's chain.
        reloader: of the rules.
        network_cut_off: whether the vault is.
    """
    state = config.site.state
    checks: Mapping[str, Callable[[], Finding]] = {
        "state_writable": lambda: writable(state),
        "ledger": lambda: _ledger(site, watch),
        "migrations": lambda: _migrations(config),
        "policy": lambda: _policy(site, reloader),
        "self_test": lambda: _self_test(config),
        "network": lambda: _network(config, network_cut_off),
        "vault_clock": Clock(state).check,
    }
    # Less than the link waits for the status: a check that hangs must not hide the others.
    return Checks(checks, seconds=_SECONDS)


def _ledger(site: Site, watch: LedgerWatch) -> Finding:
    if not watch.is_whole():
        detail = "an entry of the ledger was changed; at the site: sordino ledger verify"
        return Finding(is_ok=False, detail=detail)
    if site.halted:
        detail = "the ledger is halted; at the site: sordino ledger recover"
        return Finding(is_ok=False, detail=detail)
    return Finding(is_ok=True, detail="the ledger's chain holds")


def _migrations(config: SiteConfig) -> Finding:
    """Whether the ledger's tables are of this version; asks the database, not this process."""
    if not is_ledger_at_head(config):
        detail = "the ledger's tables are of another version: restart the vault"
        return Finding(is_ok=False, detail=detail)
    return Finding(is_ok=True, detail="the ledger's tables are of this version")


def _policy(site: Site, reloader: Reloader) -> Finding:
    if reloader.problem is not None:
        detail = "the files on the disk were not taken; at the site: sordino policy check"
        return Finding(is_ok=False, detail=detail)
    if site.policy_sha256() is None:
        return Finding(is_ok=False, detail="there is no policy, so everything is refused")
    return Finding(is_ok=True, detail="a policy is loaded")


def _self_test(config: SiteConfig) -> Finding:
    if not is_tested(config):
        detail = "the code on the disk is not what passed its self-test; restart the vault"
        return Finding(is_ok=False, detail=detail)
    return Finding(is_ok=True, detail="this code passed its self-test")


def _network(config: SiteConfig, network_cut_off: bool) -> Finding:  # noqa: FBT001
    if network_cut_off:
        return Finding(is_ok=True, detail="the vault has no network")
    if config.site.cut_network:
        return Finding(is_ok=False, detail="the kernel did not let the vault leave the network")
    return Finding(is_ok=True, detail="cut_network is off: somebody else keeps the network away")
