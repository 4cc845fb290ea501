import json
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.errors import InputError
from sordino_protocols.plan import EvaluationPlan, RunPlan, TrainingPlan
from sordino_protocols.privacy import (
    Composed,
    Event,
    Gaussian,
    Guarantee,
    PoissonGaussian,
    event_from_json,
    event_to_json,
    mechanism,
)
from sordino_protocols.signing import canonical_json

positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
leaves: st.SearchStrategy[Event] = st.one_of(
    st.builds(Gaussian, positive),
    st.builds(
        PoissonGaussian,
        st.floats(0, 1, exclude_min=True),
        positive,
        st.integers(min_value=1, max_value=2**53),
    ),
)
events: st.SearchStrategy[Event] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda e: Composed(tuple(e))),
    max_leaves=6,
)
GAUSSIAN: dict[str, object] = {"event": "gaussian", "version": 1, "noise_multiplier": 2.0}
POISSON: dict[str, object] = {
    "event": "poisson_gaussian",
    "version": 1,
    "sampling_rate": 0.5,
    "noise_multiplier": 2.0,
    "steps": 3,
}


@given(events)
def test_an_event_comes_back_from_its_canonical_bytes(event: Event) -> None:
    spelled = canonical_json(event_to_json(event))
    assert event_from_json(json.loads(spelled)) == event
    assert canonical_json(event_to_json(event_from_json(json.loads(spelled)))) == spelled


def test_the_spelling_is_this() -> None:
    # Pinned: the ledgers in the field hold these bytes.
    assert canonical_json(event_to_json(Composed((PoissonGaussian(0.5, 2.0, 3),)))) == (
        b'{"event":"composed","events":[{"event":"poisson_gaussian","noise_multiplier":2.0,'
        b'"sampling_rate":0.5,"steps":3,"version":1}],"version":1}'
    )


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"event": "laplace", "version": 1, "scale": 1.0},
        {"event": None, "version": 1},
        GAUSSIAN | {"version": 2},
        GAUSSIAN | {"version": 1.0},
        GAUSSIAN | {"version": True},
        GAUSSIAN | {"surplus": 1},
        {"event": "gaussian", "version": 1},
        GAUSSIAN | {"noise_multiplier": "2.0"},
        GAUSSIAN | {"noise_multiplier": True},
        GAUSSIAN | {"noise_multiplier": None},
        GAUSSIAN | {"noise_multiplier": 0.0},
        GAUSSIAN | {"noise_multiplier": -1.0},
        GAUSSIAN | {"noise_multiplier": math.nan},
        GAUSSIAN | {"noise_multiplier": math.inf},
        GAUSSIAN | {"noise_multiplier": 10**400},
        POISSON | {"steps": 0},
        POISSON | {"steps": 3.0},
        POISSON | {"steps": True},
        POISSON | {"sampling_rate": 0.0},
        POISSON | {"sampling_rate": 1.01},
        POISSON | {"sampling_rate": math.nan},
        {"event": "composed", "version": 1, "events": []},
        {"event": "composed", "version": 1, "events": GAUSSIAN},
        {"event": "composed", "version": 1, "events": [GAUSSIAN, 1]},
        {"event": "composed", "version": 1, "events": [GAUSSIAN | {"event": "unheard of"}]},
    ],
)
def test_refuses_what_is_no_event_and_never_prices_it_as_nothing(
    raw: Mapping[str, object],
) -> None:
    with pytest.raises(InputError):
        event_from_json(raw)


def test_the_examples_above_are_one_change_away_from_events() -> None:
    assert event_from_json(GAUSSIAN) == Gaussian(2.0)
    assert event_from_json(POISSON) == PoissonGaussian(0.5, 2.0, 3)


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [(0.0, 1e-5), (-1.0, 1e-5), (math.inf, 1e-5), (math.nan, 1e-5), (1.0, 0.0), (1.0, 1.0)],
)
def test_refuses_a_guarantee_that_promises_nothing(epsilon: float, delta: float) -> None:
    with pytest.raises(InputError):
        Guarantee(epsilon, delta)


@given(events)
def test_every_event_names_its_mechanism(event: Event) -> None:
    assert mechanism(event) == event_to_json(event)["event"]


def test_a_plans_price_is_read_off_what_parametrises_the_mechanism() -> None:
    training = TrainingPlan(
        sampling_rate=0.25,
        noise_multiplier=3.0,
        clipping_norm=0.5,
        rounds=7,
        local_steps=2,
        local_learning_rate=0.1,
        lanes=4,
    )
    plan = RunPlan(training, EvaluationPlan(bins=10, noise_multiplier=9.0))
    assert training.noise_std == 1.5
    assert training.round_event == PoissonGaussian(0.25, 3.0, 2)
    assert plan.event == Composed((PoissonGaussian(0.25, 3.0, 14), Gaussian(9.0)))
