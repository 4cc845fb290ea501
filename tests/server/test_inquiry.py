from pathlib import Path

import pytest
from federation import Federation
from one_site import POLICY
from unruly import CrashError, asked, dying_at

from sordino_protocols.messages import Inquire, Refusal
from sordino_protocols.rounds import RunState
from sordino_server.local_grid import LocalGrid
from sordino_server.runs import QUOTES
from sordino_server.statement import Quotes


def files(directory: Path) -> dict[Path, bytes]:
    # SQLite's side files change when a database is read.
    return {
        path: path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.suffix not in {".db-shm", ".db-wal"}
    }


def test_a_price_changes_nothing_at_any_site(federation: Federation) -> None:
    before = {name: files(site.directory) for name, site in federation.sites.items()}
    run = federation.submit(purpose="price")
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    quotes = run.read(QUOTES, Quotes)
    assert set(quotes.quotes) == {"a", "b", "c"}
    assert all(each.refusal is None for each in quotes.quotes.values())
    assert 3.9 < quotes.quotes["a"].epsilon_pld <= 4
    assert {name: files(site.directory) for name, site in federation.sites.items()} == before
    assert all(site.ledger.length == 0 for site in federation.sites.values())
    for site in federation.sites.values():
        assert {type(asked(federation, each)) for each in site.requests} == {Inquire}


def test_a_price_names_the_rule_that_would_refuse(federation: Federation) -> None:
    federation.sites["b"].policy = POLICY.replace("max_rounds = 50", "max_rounds = 2")
    federation.sites["b"].open()
    federation.sites["c"].policy = None
    federation.sites["c"].open()
    run = federation.submit(purpose="price")
    federation.coordinator(run).execute()
    quotes = run.read(QUOTES, Quotes).quotes
    assert quotes["b"].refusal is Refusal.FORBIDDEN_BY_POLICY
    assert quotes["b"].rule == "policy.toml:8 datasets.heart.max_rounds"
    assert quotes["c"].refusal is Refusal.NO_POLICY


def test_a_price_lists_who_refused_to_quote_and_who_did_not_answer(federation: Federation) -> None:
    stranger = federation.sites["b"]
    stranger.submitters = stranger.server
    stranger.open()
    run = federation.submit(purpose="price")
    grid = federation.grid({"c": lambda _: b""})
    federation.coordinator(run, grid).execute()
    quotes = run.read(QUOTES, Quotes)
    assert set(quotes.quotes) == {"a"}
    assert quotes.refused == {"b": "unauthenticated"}
    assert quotes.silent == {"c": "malformed"}


def test_a_price_that_nobody_quotes_is_an_answer_too(federation: Federation) -> None:
    run = federation.submit(purpose="price")
    grid = federation.grid(dict.fromkeys(federation.sites, lambda _: b""))
    federation.coordinator(run, grid).execute()
    assert run.state() is RunState.DONE
    assert set(run.read(QUOTES, Quotes).silent) == {"a", "b", "c"}


def test_a_price_goes_on_after_the_server_died(federation: Federation) -> None:
    run = federation.submit(purpose="price")
    grid: LocalGrid = federation.grid({"b": dying_at(federation, "b", Inquire, after=True)})
    with pytest.raises(CrashError):
        federation.coordinator(run, grid).execute()
    assert run.state() is RunState.ADMITTING
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    assert set(run.read(QUOTES, Quotes).quotes) == {"a", "b", "c"}
