from collections.abc import Iterator
from pathlib import Path

import pytest
from one_site import OneSite
from postgres import Cluster, postgres_cluster
from small_ledger import now

from sordino_client.chain_store import Location
from sordino_client.ledger import Ledger


@pytest.fixture
def site(tmp_path: Path) -> Iterator[OneSite]:
    made = OneSite(tmp_path)
    made.prepare()
    made.open()
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """One PostgreSQL for all tests of a session; each takes a database of its own."""
    with postgres_cluster() as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Where a ledger may lie: every test that asks for this runs on both."""
    if request.param == "sqlite":
        return tmp_path / "state" / "ledger.db"
    cluster: Cluster = request.getfixturevalue("postgres")
    return cluster.new_database()


@pytest.fixture
def ledger(store: Location) -> Iterator[Ledger]:
    opened = Ledger(store, now=now)
    yield opened
    opened.close()
