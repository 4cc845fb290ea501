"""The vault's readiness: each check says no when what it checks is broken."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from one_site import OneSite
from postgres import Cluster
from small_ledger import execute, now

from sordino_client.chain_store import Location
from sordino_client.config import SiteConfig
from sordino_client.ledger import Ledger
from sordino_client.ledger_location import ledger_location
from sordino_client.vault_health import vault_checks
from sordino_protocols.health import Check

NEWER = "UPDATE alembic_version SET version_num = '0999'"


@pytest.fixture(params=["sqlite", "postgres"])
def config(request: pytest.FixtureRequest, site: OneSite, tmp_path: Path) -> Iterator[SiteConfig]:
    """A site's configuration, by where its ledger lies."""
    if request.param == "sqlite":
        yield site.config
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    url = cluster.new_database()
    url_file = tmp_path / "ledger.url"
    url_file.write_text(url.render_as_string(hide_password=False))
    url_file.chmod(0o600)
    with closing(Ledger(url, now=now)):
        section = site.config.site.model_copy(update={"ledger_url_file": url_file})
        yield replace(site.config, site=section)


def check(site: OneSite, config: SiteConfig, name: str) -> Check:
    checks = vault_checks(config, site.site, site.watch, site.reloader, network_cut_off=True)
    return next(each for each in checks.evaluate() if each.name == name)


def test_tables_of_this_version_are_what_a_vault_can_work_with(
    site: OneSite, config: SiteConfig
) -> None:
    assert check(site, config, "migrations").is_ok


def test_tables_of_another_version_are_seen_while_the_vault_runs(
    site: OneSite, config: SiteConfig
) -> None:
    store: Location = ledger_location(config)
    execute(store, NEWER)
    found = check(site, config, "migrations")
    assert not found.is_ok
    assert "of another version: restart the vault" in found.detail


def test_a_ledger_that_went_away_is_seen(site: OneSite, config: SiteConfig) -> None:
    store = ledger_location(config)
    if isinstance(store, Path):
        shutil.move(store, store.with_name("elsewhere.db"))
    else:
        execute(store, "DROP TABLE entries, alembic_version")
    assert not check(site, config, "migrations").is_ok
