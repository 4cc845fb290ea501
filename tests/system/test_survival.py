"""Processes that die in the middle of a run: it goes on, and nothing is paid for twice."""

import json
from pathlib import Path

import pytest
from real_federation import make_job, run_federation

from sordino_client.ledger import read_entries
from sordino_server.statement import Statement

pytestmark = pytest.mark.system

SITES = ("cleveland", "hungarian")
ROUNDS = 12


def test_a_run_outlives_a_vault_a_link_and_the_server(tmp_path: Path) -> None:
    job = make_job(rounds=ROUNDS, quorum=len(SITES))
    with run_federation(tmp_path, SITES) as running:
        federation, connection = running.federation, running.connection
        run_id = connection.submit(job)
        rounds = (each["round"] for each in connection.watch(run_id) if each["event"] == "round")
        assert next(rounds) == 1

        running.kill("cleveland-vault")
        vault = federation.start_vault(running.supervisor, "cleveland")
        running.children["cleveland-vault"] = vault
        assert next(rounds) == 2

        running.kill("server")
        server = federation.start_server(running.supervisor)
        running.children["server"] = server
        federation.wait_ready(running.supervisor, running.children)

        running.kill("hungarian-link")
        link = federation.start_link(running.supervisor, "hungarian")
        running.children["hungarian-link"] = link

        states = [each["state"] for each in connection.watch(run_id) if "state" in each]
        assert states[-1] == "done", connection.show(run_id)
        statement = Statement.model_validate_json(connection.fetch(run_id, "statement.json"))
        ledgers = {
            name: read_entries(federation.layout.site_config(name).ledger_path) for name in SITES
        }

    spent = {receipt.epsilon_spent_pld for receipt in statement.receipts.values()}
    assert len(spent) == 1
    for name, receipt in statement.receipts.items():
        # The receipt speaks of a whole run: every round and the evaluation, each once.
        assert receipt.epsilon_spent_pld == receipt.epsilon_planned
        assert len(json.loads(receipt.events_json)) == ROUNDS + 1
        steps = [entry["step"] for entry in ledgers[name] if entry["kind"] == "reserve"]
        assert sorted(map(str, steps)) == sorted(
            [f"round-{number}" for number in range(1, ROUNDS + 1)] + ["evaluation"]
        )
