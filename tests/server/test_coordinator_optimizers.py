"""Whole runs, sites and all, with every kind of update, clipping and server optimiser."""

import numpy as np
import pytest
from federation import JOB, Federation, make_job
from unruly import CrashError, dying_at, rounds_of, spent

from sordino_audit.finished_run import audit_run
from sordino_protocols.messages import RoundPlan
from sordino_protocols.rounds import RunState
from sordino_server.questions import RunFailedError
from sordino_server.runs import STATEMENT, RunDirectory
from sordino_server.statement import Statement

ALL = JOB.replace("quorum = 2", "quorum = 3")
CHANGES = {
    "adam": {"learning_rate = 2.0": 'kind = "adam"\nlearning_rate = 0.1'},
    "delta": {"[training]": '[training]\nupdate = "delta"\nlocal_steps = 3'},
    "adaptive": {"[training]": '[training]\nclipping = {kind = "adaptive", learning_rate = 3.0}'},
    "per_layer": {"[training]": '[training]\nclipping = {kind = "per_layer"}'},
    "sgld": {"learning_rate = 2.0": 'kind = "sgld"\nlearning_rate = 0.1\naverage_from = 0.0'},
    "average": {"learning_rate = 2.0": "learning_rate = 2.0\naverage_decay = 0.5"},
}
ADAPT_LOUDLY = "learning_rate = 1.0, share = 0.9"


def text_of(kind: str, *, text: str = ALL) -> str:
    for old, new in CHANGES[kind].items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("kind", CHANGES)
def test_every_kind_of_run_survives_its_server(federation: Federation, kind: str) -> None:
    run = federation.submit(make_job(text_of(kind)))
    grid = federation.grid({"b": dying_at(federation, "b", RoundPlan, after=True)})
    with pytest.raises(CrashError):
        federation.coordinator(run, grid).execute()
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    # The model alone: no threshold, no lane.
    assert run.model().shape == (4,)
    assert np.isfinite(run.model()).all()
    assert run.model().any()
    assert [each["participants"] for each in rounds_of(run)] == [["a", "b", "c"]] * 3
    assert len(set(spent(federation).values())) == 1
    receipts = run.read(STATEMENT, Statement).receipts
    assert all(each.epsilon_spent_pld <= 4 * (1 + 1e-9) for each in receipts.values())


def test_the_log_tells_epsilon_as_the_ledgers_do(federation: Federation) -> None:
    run = federation.submit(make_job(text_of("delta")))
    federation.coordinator(run).execute()
    told = [float(str(each["epsilon_spent"])) for each in rounds_of(run)]
    receipts = run.read(STATEMENT, Statement).receipts
    assert told == sorted(told)
    # All but the evaluation.
    assert told[-1] < min(each.epsilon_spent_pld for each in receipts.values())


@pytest.mark.parametrize("statistics", ["", '[statistics]\nkind = "moments"\n'])
def test_a_run_that_would_be_too_hot_fails_before_anything_is_paid(
    federation: Federation, statistics: str
) -> None:
    hot = text_of("sgld").replace("learning_rate = 0.1", "learning_rate = 1e6") + statistics
    run = federation.submit(make_job(hot))
    with pytest.raises(RunFailedError, match=r"hotter than temperature 1; at most \d"):
        federation.coordinator(run).execute()
    assert run.state() is RunState.FAILED
    assert set(spent(federation).values()) == {0.0}
    assert all(site.held == 0 for site in federation.sites.values())


def test_the_rate_that_the_refusal_names_runs(federation: Federation) -> None:
    hot = text_of("sgld").replace("learning_rate = 0.1", "learning_rate = 1e6")
    with pytest.raises(RunFailedError) as caught:
        federation.coordinator(federation.submit(make_job(hot))).execute()
    largest = str(caught.value).split("at most ")[1].split()[0]
    fits = text_of("sgld").replace("learning_rate = 0.1", f"learning_rate = {largest}")
    run = federation.submit(make_job(fits))
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE


# --- the audit's readings -------------------------------------------------------------------------


def adaptation(run: RunDirectory) -> float:
    """By what factor an adaptive norm was moved in the end."""
    state = run.checkpoint()
    assert state is not None
    extra = run.job().plan.extra_coordinates
    return float(np.exp(state.weights[-extra]))


@pytest.mark.parametrize("kind", ["adaptive", "delta"])
def test_an_audit_reads_every_round_in_units_of_its_norm(federation: Federation, kind: str) -> None:
    text = text_of(kind).replace("lanes = 8", "lanes = 1000").replace("rounds = 3", "rounds = 6")
    # Every gradient is longer than this norm, and the sites say so loudly: it must grow.
    text = text.replace("clipping_norm = 0.5", "clipping_norm = 0.02")
    run = federation.submit(make_job(text.replace("learning_rate = 3.0", ADAPT_LOUDLY)))
    federation.coordinator(run).execute()
    if kind == "adaptive":
        # So readings in units of the job's norm would be far off.
        assert adaptation(run) > 2
    # 9,000 readings of held-out lanes: the interval misses 1 with probability 1e-9, and is
    # narrower than 10 % either way.
    noise = audit_run(run, confidence=1 - 1e-9).noise
    assert 0.9 < noise.low <= 1 <= noise.high < 1.1
