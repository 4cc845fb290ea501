"""From a run on the server's disk to its audit: what is read of it, and who is left out."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from federation import JOB, Federation, make_job
from unruly import away_for

from sordino_audit.finished_run import audit_run, sites_left_out
from sordino_audit.lanes import LaneAudit
from sordino_protocols.errors import InputError
from sordino_protocols.messages import Message, RoundPlan, Settle
from sordino_server.runs import RunDirectory

TWO_LAYERS = JOB.replace(
    'kind = "logistic"', 'kind = "mlp"\nhidden = [3]\nactivation = "tanh"'
).replace("lanes = 8", "lanes = 200")


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path)
    yield made
    made.close()


def finished(
    federation: Federation, text: str = TWO_LAYERS, *, away_at: type[Message] | None = None
) -> RunDirectory:
    """A run that is over; site b was away whenever it was asked this."""
    run = federation.submit(make_job(text))
    others = {} if away_at is None else {"b": away_for(federation, "b", away_at)}
    federation.coordinator(run, federation.grid(others)).execute()
    return run


def audited(run: RunDirectory) -> LaneAudit:
    return audit_run(run, confidence=0.95)


def test_the_lanes_of_every_site_and_group_are_read(federation: Federation) -> None:
    run = finished(federation)
    audit = audited(run)
    assert audit.sites == ("a", "b", "c")
    assert audit.plan.lane_groups == 2
    assert len(audit.layers) == 2
    assert len(audit.scores_inserted) + len(audit.scores_held_out) == 3 * 200
    # Some nine hundred readings of held-out lanes in each group: 15 % are six standard deviations.
    assert all(0.85 < layer.estimate < 1.15 for layer in audit.layers)
    assert sites_left_out(run, audit.sites) == ()


@pytest.mark.parametrize("away_at", [RoundPlan, Settle])
def test_a_site_of_which_nothing_is_known_is_named(
    federation: Federation, away_at: type[Message]
) -> None:
    run = finished(federation, away_at=away_at)
    audit = audited(run)
    assert audit.sites == ("a", "c")
    assert sites_left_out(run, audit.sites) == ("b",)


def test_a_run_without_lanes_says_so(federation: Federation) -> None:
    run = finished(federation, TWO_LAYERS.replace("lanes = 200", "lanes = 0"))
    assert list(run.readings()) == []
    with pytest.raises(InputError, match="carried no canary lanes"):
        audited(run)
