"""Documents of audits: stable, hashed, and honest in words."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from lane_simulation import claim_of, simulate, training_plan

from sordino_audit.audit_document import AuditDocument
from sordino_audit.lanes import audit_lanes
from sordino_audit.report import (
    blind_spots,
    document,
    plain_verdict,
    to_json,
    verify,
)
from sordino_protocols.clipping import AdaptiveClipping, NormalizedClipping, PerLayerClipping
from sordino_protocols.errors import IntegrityError

PLAN = training_plan(lanes=100)


@cache
def _document(*, noise_ratio: float = 1.0, previous: str | None = None) -> AuditDocument:
    observations = simulate(PLAN, np.random.default_rng(30), noise_ratio=noise_ratio)
    audit = audit_lanes(observations, PLAN, claim=claim_of(PLAN), confidence=0.95)
    return document(audit, run_id="run-1", previous=previous)


def test_survives_a_round_trip_and_still_verifies() -> None:
    issued = _document()
    read: AuditDocument = json.loads(to_json(issued))
    assert read == issued
    verify(read)


def test_any_altered_field_breaks_the_hash() -> None:
    for change in ({"verdict": "tight!"}, {"lower_bound": 0.0001}, {"previous": "00"}):
        altered: AuditDocument = json.loads(json.dumps({**_document(), **change}))
        with pytest.raises(IntegrityError, match="altered"):
            verify(altered)


def test_the_hash_covers_the_previous_audit() -> None:
    assert _document(previous="ab")["hash"] != _document(previous="cd")["hash"]


def test_words_follow_the_verdict() -> None:
    assert "no more than was promised" in plain_verdict(_document())
    assert "less noise than claimed" in plain_verdict(_document(noise_ratio=0.5))


def test_names_what_it_could_not_see() -> None:
    text = " ".join(blind_spots(_document()))
    assert "at most" in text
    assert "evaluation" in text
    assert "statistics" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"unit": "entity"}, "groups records into entities"),
        ({"update": "delta"}, "the change of the model was made from the same noisy sums"),
        ({"clipping": AdaptiveClipping(kind="adaptive")}, "the coordinate that moves this norm"),
        ({"clipping": PerLayerClipping(kind="per_layer")}, "in several layers"),
        ({"clipping": NormalizedClipping(kind="normalized")}, "in several layers"),
    ],
)
def test_names_what_it_does_not_check_of_a_plan(change: dict[str, object], says: str) -> None:
    plan = replace(training_plan(lanes=20, rounds=3), **change)  # type: ignore[arg-type]
    observations = simulate(plan, np.random.default_rng(31))
    audit = audit_lanes(observations, plan, claim=claim_of(plan), confidence=0.95)
    issued = document(audit, run_id="run-2")
    verify(issued)
    assert says in " ".join(blind_spots(issued))
    assert says not in " ".join(blind_spots(_document()))
