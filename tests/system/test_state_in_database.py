"""Real processes whose ledger and runs lie in a real PostgreSQL, which drops them in mid-run.

The records are marked, and no mark is found in the databases either.
"""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from postgres import Cluster, postgres_cluster
from real_federation import make_job, run_sites, until
from record_marks import WORD, leaks, marked

from sordino_client.ledger import read_entries
from sordino_deploy.local import LocalFederation
from sordino_server.statement import Statement

pytestmark = pytest.mark.system

SITE = "cleveland"
ROUNDS = 4
TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname IS NOT NULL AND pid <> pg_backend_pid()"
)


def move_into(cluster: Cluster, config: Path, *, section: str, key: str) -> str:
    """Have a daemon keep its state in a database of its own; its name."""
    url = cluster.new_database()
    url_file = config.with_name("state.url")
    url_file.write_text(url.render_as_string(hide_password=False) + "\n")
    url_file.chmod(0o600)
    text = config.read_text()
    config.write_text(text.replace(f"[{section}]\n", f'[{section}]\n{key} = "{url_file.name}"\n'))
    return str(url.database)


def cells_of(cluster: Cluster, database: str) -> list[bytes]:
    """Every cell of every table of a database."""
    engine = sa.create_engine(cluster.url(database), poolclass=sa.NullPool)
    tables = sa.MetaData()
    with engine.connect() as connection:
        tables.reflect(connection)
        rows = [row for each in tables.sorted_tables for row in connection.execute(sa.select(each))]
    return [
        bytes(cell) if isinstance(cell, bytes | memoryview) else str(cell).encode()
        for row in rows
        for cell in row
    ]


def test_a_run_outlives_its_databases_connections_and_the_server(tmp_path: Path) -> None:
    databases: dict[str, str] = {}
    with postgres_cluster() as cluster:

        def prepared(federation: LocalFederation) -> None:
            server = federation.layout.server / "server.toml"
            site = federation.layout.site(SITE) / "site.toml"
            databases["server"] = move_into(cluster, server, section="server", key="state_url_file")
            databases["site"] = move_into(cluster, site, section="site", key="ledger_url_file")

        sites = [marked(tmp_path / "data", SITE)]
        with run_sites(tmp_path, sites, prepared=prepared) as running:
            federation, connection = running.federation, running.connection
            run_id = connection.submit(make_job(rounds=ROUNDS, quorum=1))
            rounds = (
                each["round"] for each in connection.watch(run_id) if each["event"] == "round"
            )
            assert next(rounds) == 1
            cluster.execute("postgres", TERMINATE)
            running.kill("server")
            running.children["server"] = federation.start_server(running.supervisor)
            federation.wait_ready(running.supervisor, running.children)
            until(lambda: connection.show(run_id)["state"] in {"done", "failed"}, 300)
            assert connection.show(run_id)["state"] == "done", connection.show(run_id)
            content = connection.fetch(run_id, "statement.json")
        statement = Statement.model_validate_json(content)
        steps = [
            str(entry["step"])
            for entry in read_entries(cluster.url(databases["site"]))
            if entry["kind"] == "reserve"
        ]
        kept = [cell for name in databases.values() for cell in cells_of(cluster, name)]
        state = federation.layout.server / "state"
        assert not (state / "runs").exists()
        assert not (state / "heads").exists()
        assert not federation.layout.site_config(SITE).ledger_path.exists()

    (receipt,) = statement.receipts.values()
    assert receipt.epsilon_spent_pld == receipt.epsilon_planned
    assert len(json.loads(receipt.events_json)) == ROUNDS + 1
    assert sorted(steps) == sorted(
        [f"round-{number}" for number in range(1, ROUNDS + 1)] + ["evaluation"]
    )
    # The search looked where it had to look, and can find something.
    assert any(b"statement" in cell for cell in kept)
    assert any(b"reserve" in cell for cell in kept)
    assert leaks(WORD.encode())
    assert leaks(b"".join(kept)) == []
