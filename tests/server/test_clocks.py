"""Clocks that are minutes off, or are set while a run is under way."""

import datetime as dt
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from federation import Federation
from unruly import asked, held, rounds_of, spent

from sordino_client.ledger import Ledger, read_entries
from sordino_protocols.messages import RoundPlan
from sordino_protocols.rounds import RunState
from sordino_server.local_grid import LocalGrid

MINUTES = 60.0


class SettableClock:
    """Unix time, and somebody who sets it."""

    def __init__(self) -> None:
        self.offset = 0.0
        self._right = time.time

    def __call__(self) -> float:
        return self._right() + self.offset


@pytest.fixture
def reference(tmp_path: Path) -> Iterator[dict[str, float]]:
    """What a run costs each site where all clocks are right."""
    (tmp_path / "right").mkdir()
    federation = Federation(tmp_path / "right")
    federation.coordinator(federation.submit()).execute()
    yield spent(federation)
    federation.close()


def shifted(seconds: float) -> Callable[[], dt.datetime]:
    return lambda: dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)


@pytest.mark.parametrize("minutes", [-17, 17])
def test_a_site_whose_clock_is_off_pays_and_releases_as_the_others(
    federation: Federation, reference: dict[str, float], minutes: int
) -> None:
    site = federation.sites["b"]
    site.now = shifted(minutes * MINUTES)
    site.open()
    run = federation.submit()
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    assert [each["participants"] for each in rounds_of(run)] == [["a", "b", "c"]] * 3
    assert spent(federation) == reference
    # Its entries say what its clock said: nobody's order rests on it.
    entries = read_entries(site.directory / "ledger.db")
    first = dt.datetime.fromisoformat(str(entries[0]["at"]))
    assert abs((first - dt.datetime.now(dt.UTC)).total_seconds()) > 10 * MINUTES


def test_a_site_whose_clock_is_set_back_in_mid_run_keeps_its_chain(
    federation: Federation, reference: dict[str, float]
) -> None:
    site = federation.sites["b"]

    def answer(envelope: bytes) -> bytes:
        message = asked(federation, envelope)
        if isinstance(message, RoundPlan) and message.round == 2:
            site.now = shifted(-30 * MINUTES)
            site.open()
        return site.answer(envelope)

    run = federation.submit()
    federation.coordinator(run, federation.grid({"b": answer})).execute()
    assert run.state() is RunState.DONE
    assert spent(federation) == reference
    site.ledger.verify()
    site.close()
    Ledger(site.directory / "ledger.db", now=shifted(0)).close()


@pytest.mark.parametrize("minutes", [-30, 30])
def test_a_clock_of_the_server_that_is_set_in_mid_round_loses_no_round(
    federation: Federation,
    reference: dict[str, float],
    minutes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SettableClock()
    monkeypatch.setattr(time, "time", clock)

    def answer(envelope: bytes) -> bytes:
        message = asked(federation, envelope)
        if isinstance(message, RoundPlan) and message.round == 2:
            # The messages to the others, who are asked after this one, are old now, or of tomorrow.
            clock.offset = minutes * MINUTES
        return federation.sites["a"].answer(envelope)

    run = federation.submit()
    sites = {name: site.answer for name, site in federation.sites.items()} | {"a": answer}
    grid = LocalGrid(sites, clock=clock)
    federation.coordinator(run, grid).execute()
    assert run.state() is RunState.DONE
    assert [each["round"] for each in rounds_of(run)] == [1, 2, 3]
    assert len(list(rounds_of(run)[1]["participants"])) >= 2  # type: ignore[call-overload]
    assert held(federation) == 0
    for name, cost in spent(federation).items():
        assert cost <= reference[name]
