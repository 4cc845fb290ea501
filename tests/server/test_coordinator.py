import json

import numpy as np
import pytest
from federation import JOB, Federation, make_job
from unruly import CrashError, dying_at, held, requests, restarting, rounds_of, spent

from sordino_protocols.messages import (
    Admit,
    Evaluate,
    Message,
    RoundPlan,
    Settle,
    Update,
    Vector,
)
from sordino_protocols.rounds import RunState
from sordino_protocols.wire import open_sealed
from sordino_server.runs import STATEMENT, RunDirectory
from sordino_server.statement import Statement

ALL = JOB.replace("quorum = 2", "quorum = 3")


# ------------------------------------------------------------------ a run that ends well


def test_a_run_goes_from_a_job_to_a_model_and_its_statement(federation: Federation) -> None:
    run = federation.submit()
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    assert run.model().shape == (4,)
    assert np.isfinite(run.model()).all()
    assert [each["participants"] for each in rounds_of(run)] == [["a", "b", "c"]] * 3
    statement = run.read(STATEMENT, Statement)
    assert set(statement.receipts) == set(statement.admissions) == {"a", "b", "c"}
    assert statement.require_evaluation().sites == ("a", "b", "c")
    assert statement.job_digest == make_job().digest()


def test_no_site_spends_more_than_planned_and_nothing_stays_held(federation: Federation) -> None:
    run = federation.submit()
    federation.coordinator(run).execute()
    for name, receipt in run.read(STATEMENT, Statement).receipts.items():
        assert 0 < receipt.epsilon_spent_pld <= receipt.epsilon_planned <= 4 * (1 + 1e-9)
        assert len(json.loads(receipt.events_json)) == 4
        assert federation.sites[name].held == 0
    assert held(federation) == 0


def test_the_log_tells_epsilon_as_it_is_spent(federation: Federation) -> None:
    run = federation.submit()
    federation.coordinator(run).execute()
    told = [float(str(each["epsilon_spent"])) for each in rounds_of(run)]
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] < make_job().file.require_privacy().epsilon


def test_a_run_that_is_over_stays_as_it_is(federation: Federation) -> None:
    run = federation.submit()
    federation.coordinator(run).execute()
    before = (list(run.events()), spent(federation), run.model().tobytes())
    federation.coordinator(run).execute()
    assert (list(run.events()), spent(federation), run.model().tobytes()) == before


def test_only_the_sites_that_the_job_names_are_asked(federation: Federation) -> None:
    named = make_job(JOB.replace("quorum = 2", 'quorum = 2\nsites = ["a", "c"]'))
    run = federation.submit(named)
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    assert federation.sites["b"].requests == []


def test_lanes_of_every_round_and_group_are_kept_for_the_audit(federation: Federation) -> None:
    two_layers = 'kind = "mlp"\nhidden = [3]\nactivation = "tanh"'
    run = federation.submit(make_job(JOB.replace('kind = "logistic"', two_layers)))
    federation.coordinator(run).execute()
    assert run.job().plan.require_training().lane_groups == 2
    readings = list(run.readings())
    assert len(readings) == 3
    for number, sites in enumerate(readings, start=1):
        assert set(sites) == {"a", "b", "c"}
        for site, lanes in sites.items():
            released = update_of(federation, site, run, number)
            assert np.array_equal(lanes, released[-16:].reshape(2, 8))


def update_of(federation: Federation, site: str, run: RunDirectory, number: int) -> Vector:
    """What a site released in a round."""
    release = federation.sites[site].outbox.get(run.run_id, f"round-{number}")
    assert release is not None
    update = open_sealed(release.envelope, federation.trusted_sites).message
    assert isinstance(update, Update)
    return update.vector


# ------------------------------------------------------------------ a server that dies


@pytest.mark.parametrize("kind", [Admit, RoundPlan, Evaluate, Settle])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_server_that_died_finishes_the_run_at_the_same_price(
    federation: Federation, kind: type[Message], *, after: bool
) -> None:
    run = federation.submit(make_job(ALL))
    grid = federation.grid({"b": dying_at(federation, "b", kind, after=after)})
    with pytest.raises(CrashError):
        federation.coordinator(run, grid).execute()
    assert run.state() not in {RunState.DONE, RunState.FAILED}
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    for name, site in federation.sites.items():
        repeated = requests(federation, name, kind)
        # What was asked again was asked with the same bytes.
        assert len(set(repeated)) == (3 if kind is RoundPlan else 1)
        assert len(site.ledger.charged(run.run_id)) == 4
    assert len(set(spent(federation).values())) == 1
    # And no round was asked again that was complete.
    assert [each["round"] for each in rounds_of(run)] == [1, 2, 3]


def test_a_resumed_run_costs_what_an_undisturbed_one_does(federation: Federation) -> None:
    undisturbed = federation.submit(make_job(ALL))
    federation.coordinator(undisturbed).execute()
    run = federation.submit(make_job(ALL))
    for name in ("a", "b", "c"):
        grid = federation.grid({name: dying_at(federation, name, RoundPlan, after=True)})
        with pytest.raises(CrashError):
            federation.coordinator(run, grid).execute()
    federation.coordinator(run).execute()
    receipts = [each.read(STATEMENT, Statement).receipts for each in (undisturbed, run)]
    for name in federation.sites:
        first, second = (each[name] for each in receipts)
        assert first.epsilon_spent_pld == second.epsilon_spent_pld
        assert first.events_json == second.events_json


def test_a_round_that_was_logged_but_not_checkpointed_is_asked_again(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = federation.submit()

    def crash(*_: object) -> None:
        raise CrashError

    with monkeypatch.context() as dying:
        dying.setattr(RunDirectory, "save_checkpoint", crash)
        with pytest.raises(CrashError):
            federation.coordinator(run).execute()
    federation.coordinator(run).execute()
    assert [each["round"] for each in rounds_of(run)] == [1, 1, 2, 3]
    assert all(len(site.ledger.charged(run.run_id)) == 4 for site in federation.sites.values())


def test_a_site_that_restarts_in_mid_run_is_charged_once(federation: Federation) -> None:
    run = federation.submit(make_job(ALL))
    federation.coordinator(run, federation.grid({"b": restarting(federation, "b")})).execute()
    assert run.state() is RunState.DONE
    assert len(set(spent(federation).values())) == 1
    assert len(federation.sites["b"].ledger.charged(run.run_id)) == 4
