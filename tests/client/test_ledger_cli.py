"""`sordino ledger` and `sordino budget` on a site that has really answered."""

import json
import shutil
from pathlib import Path

import pytest
import typer
from click.testing import Result
from one_site import DATASET, NAME, OneSite, evaluate, round_plan, settle
from small_ledger import execute
from typer.testing import CliRunner

from sordino_client.ledger_cli import budget_app, ledger_app
from sordino_protocols.audit_log import read_audit_log
from sordino_protocols.errors import AuthenticationError, InputError, IntegrityError, SordinoError
from sordino_protocols.messages import Receipt, Refusal, Refused
from sordino_protocols.privacy import Guarantee

app = typer.Typer()
app.add_typer(budget_app, name="budget")
app.add_typer(ledger_app, name="ledger")


@pytest.fixture
def worked(site: OneSite) -> OneSite:
    """A site with one settled run and one that is running; its vault still runs."""
    site.ask(site.admit())
    site.ask(round_plan())
    site.ask(evaluate())
    site.ask(settle())
    site.ask(site.admit("run-2"))
    return site


def run(site: OneSite, *words: str, text: str | None = None) -> Result:
    config = ["--config", str(site.directory / "site.toml")]
    return CliRunner().invoke(app, [*words, *config], input=text)


def answered(site: OneSite, *words: str) -> object:
    done = run(site, *words, "--output", "json")
    assert done.exception is None, done.exception
    return json.loads(done.stdout)


def failed(done: Result) -> SordinoError:
    assert isinstance(done.exception, SordinoError), done.output
    return done.exception


def newest_receipt(site: OneSite) -> dict[str, object]:
    """What a run's statement on the server says of this site."""
    answer = site.ask(settle())
    assert isinstance(answer, Receipt)
    head = answer.ledger_head
    return {"length": head.length, "hash": head.hash, "signature": head.signature}


def test_a_ledger_that_holds_together_is_verified(worked: OneSite) -> None:
    assert answered(worked, "ledger", "verify") == {
        "ledger": str(worked.config.ledger_path),
        "entries": worked.ledger.length,
        "head": worked.ledger.head,
    }


def test_one_that_does_not_ends_with_the_code_of_integrity(worked: OneSite) -> None:
    execute(worked.config.ledger_path, "DELETE FROM entries WHERE seq = 1")
    for words in (("ledger", "verify"), ("ledger", "show"), ("ledger", "export")):
        error = failed(run(worked, *words))
        assert isinstance(error, IntegrityError)
        assert error.exit_code == 8
        assert "entry 1 is missing" in str(error)


def test_missing_entries_are_found_without_a_start(worked: OneSite) -> None:
    execute(worked.config.ledger_path, "DELETE FROM entries WHERE seq >= 2")
    error = failed(run(worked, "ledger", "verify"))
    assert "entries are missing: the outbox has run-1/evaluation" in str(error)


def test_a_head_that_a_run_kept_is_found_again_or_missed(worked: OneSite, tmp_path: Path) -> None:
    statement = tmp_path / "statement.json"
    head = newest_receipt(worked)
    elsewhere = head | {"signature": "00" * 64}
    sites = {NAME: {"receipt": {"ledger_head": head}}, "other": {"ledger_head": elsewhere}}
    statement.write_text(json.dumps({"sites": sites}, indent=2))
    facts = answered(worked, "ledger", "verify", "--against", str(statement))
    assert isinstance(facts, dict)
    assert facts["heads_found_again"] == 1
    # The hold of the second run, and the end of the first, are gone; the outbox is an old one too.
    execute(worked.config.ledger_path, "DELETE FROM entries WHERE seq >= 5")
    shutil.rmtree(worked.config.site.state / "outbox" / "run-2")
    (worked.config.site.state / "outbox" / "run-1" / "receipt.release").unlink()
    assert run(worked, "ledger", "verify").exception is None
    error = failed(run(worked, "ledger", "verify", "--against", str(statement)))
    assert error.exit_code == 8
    assert "it is not there" in str(error)


def test_a_document_without_a_head_of_this_site_proves_nothing(
    worked: OneSite, tmp_path: Path
) -> None:
    statement = tmp_path / "statement.json"
    for text in (
        "no json",
        "{}",
        json.dumps({"ledger_head": newest_receipt(worked) | {"signature": "00" * 64}}),
    ):
        statement.write_text(text)
        error = failed(run(worked, "ledger", "verify", "--against", str(statement)))
        assert isinstance(error, InputError)


def test_an_export_is_verified_offline_with_the_public_key(worked: OneSite, tmp_path: Path) -> None:
    export = tmp_path / "ledger.jsonl"
    assert run(worked, "ledger", "export", "--out", str(export)).exception is None
    assert export.read_text() == run(worked, "ledger", "export").stdout
    length, head = worked.ledger.length, worked.ledger.head
    key = worked.directory / "keys" / f"{NAME}.pub"
    offline = ("ledger", "verify", "--export", str(export), "--site-key", str(key))
    elsewhere = CliRunner().invoke(app, [*offline, "--output", "json"])
    assert json.loads(elsewhere.stdout) == {
        "export": str(export),
        "site": NAME,
        "entries": length,
        "head": head,
        "runs": 2,
    }
    # What was exported must still be in the ledger later.
    assert run(worked, "ledger", "verify", "--against", str(export)).exception is None
    lines = export.read_text().splitlines(keepends=True)
    for tampered in (
        [*lines[:-1]],
        [*lines[:3], *lines[4:]],
        [*lines[:2], lines[2].replace("run-1", "run-7"), *lines[3:]],
        [lines[0], *reversed(lines[1:])],
    ):
        export.write_text("".join(tampered))
        assert failed(CliRunner().invoke(app, offline)).exit_code == 8
    stranger = worked.directory / "elsewhere" / "server.pub"
    (tmp_path / "stolen").mkdir()
    shutil.copy(stranger, tmp_path / "stolen" / f"{NAME}.pub")
    export.write_text("".join(lines))
    error = failed(CliRunner().invoke(app, [*offline[:-1], str(stranger)]))
    assert isinstance(error, AuthenticationError)
    with_one = CliRunner().invoke(app, offline[:-2])
    assert isinstance(failed(with_one), InputError)


def test_the_history_says_what_each_run_has_spent_so_far(worked: OneSite) -> None:
    rows = answered(worked, "ledger", "show")
    assert isinstance(rows, list)
    assert [row["kind"] for row in rows] == [
        "hold",
        "reserve",
        "commit",
        "reserve",
        "commit",
        "settle",
        "hold",
    ]
    spent = [row["epsilon"] for row in rows]
    assert spent[0] == spent[-1] == 0.0
    assert 0 < spent[1] == spent[2] < spent[3] == spent[4] == spent[5]
    assert rows[1]["step"] == "round-1"
    assert rows[-1]["hash"] == worked.ledger.head
    assert {row["mechanism"] for row in rows} > {None, "poisson_gaussian"}
    table = run(worked, "ledger", "show").stdout
    assert "poisson_gaussian" in table
    assert "round-1" in table


def test_the_budget_shows_what_the_filter_costs(worked: OneSite) -> None:
    rows = answered(worked, "budget", "show")
    assert isinstance(rows, list)
    (row,) = rows
    balance = worked.ledger.balance(DATASET, Guarantee(8.0, 1e-5))
    assert row["lineage"] == DATASET
    for name in ("limit", "spent", "held", "left", "delta"):
        assert row[name] == pytest.approx(getattr(balance, name))
    assert 0 < row["composed"] < row["spent"]
    assert row["filter_costs"] == pytest.approx(row["spent"] - row["composed"])
    assert "Not sound when jobs are chosen" in run(worked, "budget", "show").output


def test_a_site_that_never_ran_has_its_whole_budget(tmp_path: Path) -> None:
    fresh = OneSite(tmp_path)
    fresh.prepare()
    fresh.write_policy()
    rows = answered(fresh, "budget", "show")
    assert isinstance(rows, list)
    assert [(row["spent"], row["left"], row["composed"]) for row in rows] == [(0.0, 8.0, 0.0)]
    assert failed(run(fresh, "ledger", "verify")).exit_code == 5
    assert not fresh.config.site.state.exists()


def test_a_halted_ledger_is_recovered_by_a_person(worked: OneSite) -> None:
    spent = worked.spent
    execute(worked.config.ledger_path, "DELETE FROM entries WHERE seq >= 3")
    worked.open()
    refused = worked.ask(round_plan())
    assert isinstance(refused, Refused)
    assert refused.refusal is Refusal.INTEGRITY
    assert "halted" in str(failed(run(worked, "ledger", "verify")))
    words = ("ledger", "recover", "--reason", "the disk was replaced")
    # Not while the vault has it open, and not without a yes.
    assert "another process" in str(failed(run(worked, *words)))
    worked.close()
    asked = run(worked, *words, text="n\n")
    assert asked.exit_code == 1
    assert "charge    run-1: its whole plan" in asked.output
    assert failed(run(worked, "ledger", "verify")).exit_code == 8
    done = run(worked, *words, "--yes", "--output", "json")
    assert done.exception is None, done.exception
    assert json.loads(done.stdout)["charged"] == ["run-1", "run-2"]
    assert run(worked, "ledger", "verify").exception is None
    worked.open()
    assert worked.spent > spent
    newest = read_audit_log(worked.config.audit_log_path)[-1]
    assert (newest.actor, newest.action) == ("admin", "recovered")
    assert "the disk was replaced" in newest.reason
    # Work goes on with new runs; what was recovered is over.
    assert isinstance(worked.ask(round_plan(number=2)), Refused)
