import json
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.clipping import AdaptiveClipping, NormalizedClipping
from sordino_protocols.errors import InputError
from sordino_protocols.local_training import LocalAdam
from sordino_protocols.plan import EvaluationPlan, RunPlan, StatisticsPlan, TrainingPlan
from sordino_protocols.privacy import (
    DEEPEST_NESTING,
    LARGEST_DISCRETE_STD,
    MOST_PARTS,
    MOST_REPETITIONS,
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    Event,
    Exponential,
    ExponentialQuantile,
    Gaussian,
    Guarantee,
    Laplace,
    PoissonGaussian,
    PrivacyUnit,
    SelfComposed,
    event_from_json,
    event_to_json,
    leaves,
    mechanism,
    unit_of,
)
from sordino_protocols.signing import canonical_json

positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


def leaves_about(unit: PrivacyUnit) -> st.SearchStrategy[Event]:
    rates, steps = st.floats(0, 1, exclude_min=True), st.integers(1, 10**6)
    stds = st.floats(0, LARGEST_DISCRETE_STD, exclude_min=True)
    about = st.just(unit)
    return st.one_of(
        st.builds(PoissonGaussian, rates, positive, steps, about),
        st.builds(Gaussian, positive, about),
        st.builds(DiscreteGaussian, stds, st.integers(1, 50), about),
        st.builds(Laplace, positive, about),
        st.builds(DiscreteLaplace, positive, about),
        st.builds(ExponentialQuantile, positive, about),
        st.builds(Exponential, positive, about),
    )


def events_about(unit: PrivacyUnit) -> st.SearchStrategy[Event]:
    return st.recursive(
        leaves_about(unit),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(lambda e: Composed(tuple(e))),
            st.builds(SelfComposed, inner, st.integers(1, 3)),
        ),
        max_leaves=6,
    )


UNITS: tuple[PrivacyUnit, ...] = ("record", "entity")
events = st.sampled_from(UNITS).flatmap(events_about)
GAUSSIAN: dict[str, object] = {
    "event": "gaussian",
    "version": 2,
    "noise_multiplier": 2.0,
    "unit": "entity",
}
POISSON: dict[str, object] = {
    "event": "poisson_gaussian",
    "version": 2,
    "sampling_rate": 0.5,
    "noise_multiplier": 2.0,
    "steps": 3,
    "unit": "record",
}
# What sites wrote before there were entities.
GAUSSIAN_1: dict[str, object] = {"event": "gaussian", "version": 1, "noise_multiplier": 2.0}
POISSON_1: dict[str, object] = {
    "event": "poisson_gaussian",
    "version": 1,
    "sampling_rate": 0.5,
    "noise_multiplier": 2.0,
    "steps": 3,
}
COMPOSED: dict[str, object] = {"event": "composed", "version": 2, "events": [GAUSSIAN]}
SELF_COMPOSED: dict[str, object] = {
    "event": "self_composed",
    "version": 2,
    "of": GAUSSIAN,
    "count": 3,
}
DISCRETE: dict[str, object] = {
    "event": "discrete_gaussian",
    "version": 2,
    "noise_std": 4.0,
    "sensitivity": 1,
    "unit": "record",
}
LAPLACE: dict[str, object] = GAUSSIAN | {"event": "laplace"}
QUANTILE: dict[str, object] = {
    "event": "exponential_quantile",
    "version": 2,
    "epsilon": 0.5,
    "unit": "record",
}
CHOICE: dict[str, object] = QUANTILE | {"event": "exponential"}


@given(events)
def test_an_event_comes_back_from_its_canonical_bytes(event: Event) -> None:
    spelled = canonical_json(event_to_json(event))
    assert event_from_json(json.loads(spelled)) == event
    assert canonical_json(event_to_json(event_from_json(json.loads(spelled)))) == spelled


def test_the_spelling_is_this() -> None:
    # Pinned: the ledgers in the field hold these bytes.
    assert canonical_json(event_to_json(Composed((PoissonGaussian(0.5, 2.0, 3),)))) == (
        b'{"event":"composed","events":[{"event":"poisson_gaussian","noise_multiplier":2.0,'
        b'"sampling_rate":0.5,"steps":3,"unit":"record","version":2}],"version":2}'
    )


def test_an_event_of_the_first_version_is_about_records() -> None:
    # Pinned: older ledgers hold these bytes, and their events must be priced for ever.
    old = (
        b'{"event":"composed","events":[{"event":"poisson_gaussian","noise_multiplier":2.0,'
        b'"sampling_rate":0.5,"steps":3,"version":1},{"event":"gaussian","noise_multiplier":2.0,'
        b'"version":1}],"version":1}'
    )
    event = event_from_json(json.loads(old))
    assert event == Composed((PoissonGaussian(0.5, 2.0, 3, "record"), Gaussian(2.0, "record")))
    assert unit_of(event) == "record"


@pytest.mark.parametrize("unit", UNITS)
def test_an_event_says_whom_it_is_about(unit: PrivacyUnit) -> None:
    event = Composed((PoissonGaussian(0.5, 2.0, 3, unit), Composed((Gaussian(2.0, unit),))))
    assert unit_of(event) == unit
    assert unit_of(event_from_json(event_to_json(event))) == unit


def test_events_about_records_and_about_entities_do_not_compose() -> None:
    # Adding one entity adds any number of records: the sum of both prices is a promise to nobody.
    record, entity = Gaussian(2.0, "record"), PoissonGaussian(0.5, 2.0, 3, "entity")
    for mixed in ((record, entity), (Composed((record,)), entity)):
        with pytest.raises(InputError, match="one privacy unit"):
            Composed(mixed)
    raw = {"event": "composed", "version": 2, "events": [GAUSSIAN, POISSON]}
    with pytest.raises(InputError, match="one privacy unit"):
        event_from_json(raw)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"event": "laplace", "version": 2, "scale": 1.0},
        {"event": ["gaussian"], "version": 2},
        {"event": "gaussian"},
        # Only the first three kinds were in the first version.
        {"event": "laplace", "version": 1, "noise_multiplier": 2.0},
        DISCRETE | {"version": 1},
        DISCRETE | {"noise_std": 0.0},
        DISCRETE | {"noise_std": 2 * LARGEST_DISCRETE_STD},
        DISCRETE | {"noise_std": math.nan},
        DISCRETE | {"sensitivity": 0},
        DISCRETE | {"sensitivity": 1.0},
        DISCRETE | {"sensitivity": True},
        DISCRETE | {"noise_multiplier": 1.0},
        LAPLACE | {"noise_multiplier": 0.0},
        LAPLACE | {"event": "discrete_laplace", "noise_multiplier": math.inf},
        LAPLACE | {"event": "exponential_quantile"},
        QUANTILE | {"epsilon": 0.0},
        QUANTILE | {"epsilon": math.inf},
        QUANTILE | {"epsilon": "1"},
        SELF_COMPOSED | {"count": 0},
        SELF_COMPOSED | {"count": 1.0},
        SELF_COMPOSED | {"count": MOST_REPETITIONS + 1},
        SELF_COMPOSED | {"of": [GAUSSIAN]},
        SELF_COMPOSED | {"of": None},
        SELF_COMPOSED | {"unit": "record"},
        SELF_COMPOSED | {"version": 1},
        SELF_COMPOSED | {"of": POISSON | {"steps": MOST_REPETITIONS // 2}},
        POISSON | {"steps": MOST_REPETITIONS + 1},
        {"event": None, "version": 2},
        GAUSSIAN | {"version": 3},
        GAUSSIAN | {"version": 0},
        GAUSSIAN | {"version": 2.0},
        GAUSSIAN_1 | {"version": 1.0},
        GAUSSIAN_1 | {"version": True},
        # The first version had no units, and the second has nothing else.
        GAUSSIAN_1 | {"version": 2},
        GAUSSIAN | {"version": 1},
        POISSON | {"version": 1},
        GAUSSIAN | {"unit": "person"},
        GAUSSIAN | {"unit": None},
        GAUSSIAN | {"surplus": 1},
        CHOICE | {"sensitivity": 1.0},
        CHOICE | {"epsilon": 0.0},
        CHOICE | {"epsilon": math.inf},
        {"event": "gaussian", "version": 2},
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
        {"event": "composed", "version": 2, "events": []},
        {"event": "composed", "version": 2, "events": GAUSSIAN},
        {"event": "composed", "version": 2, "events": [GAUSSIAN, 1]},
        {"event": "composed", "version": 2, "events": [GAUSSIAN | {"event": "unheard of"}]},
        {"event": "composed", "version": 2, "events": [GAUSSIAN], "unit": "entity"},
    ],
)
def test_refuses_what_is_no_event_and_never_prices_it_as_nothing(
    raw: Mapping[str, object],
) -> None:
    with pytest.raises(InputError):
        event_from_json(raw)


def test_the_examples_above_are_one_change_away_from_events() -> None:
    assert event_from_json(GAUSSIAN) == Gaussian(2.0, "entity")
    assert event_from_json(POISSON) == PoissonGaussian(0.5, 2.0, 3)
    assert event_from_json(DISCRETE) == DiscreteGaussian(4.0)
    assert event_from_json(LAPLACE) == Laplace(2.0, "entity")
    assert event_from_json(LAPLACE | {"event": "discrete_laplace"}) == DiscreteLaplace(
        2.0, "entity"
    )
    assert event_from_json(QUANTILE) == ExponentialQuantile(0.5)
    assert event_from_json(CHOICE) == Exponential(0.5)
    assert event_from_json(SELF_COMPOSED) == SelfComposed(Gaussian(2.0, "entity"), 3)
    assert event_from_json(COMPOSED) == Composed((Gaussian(2.0, "entity"),))
    assert event_from_json(GAUSSIAN_1) == Gaussian(2.0)
    assert event_from_json(POISSON_1) == PoissonGaussian(0.5, 2.0, 3)


def nested(depth: int) -> dict[str, object]:
    raw = GAUSSIAN
    for _ in range(depth):
        raw = {"event": "composed", "version": 2, "events": [raw]}
    return raw


def test_nesting_ends_somewhere() -> None:
    event = event_from_json(nested(DEEPEST_NESTING))
    with pytest.raises(InputError, match="nested"):
        event_from_json(nested(DEEPEST_NESTING + 1))
    with pytest.raises(InputError, match="nested"):
        event_from_json(nested(100_000))
    with pytest.raises(InputError, match="nested"):
        Composed((event,))
    with pytest.raises(InputError, match="nested"):
        SelfComposed(event, 2)


def test_repetition_ends_somewhere() -> None:
    half = SelfComposed(PoissonGaussian(0.1, 1.0, 10), MOST_REPETITIONS // 20)
    assert list(leaves(Composed((half, half)))) == 2 * [
        (PoissonGaussian(0.1, 1.0, 10), MOST_REPETITIONS // 20)
    ]
    for too_many in ((half, half, half), (Composed((half, half)), Gaussian(1.0))):
        with pytest.raises(InputError, match="repetitions"):
            Composed(too_many)
    with pytest.raises(InputError, match="repetitions"):
        SelfComposed(half, 3)
    with pytest.raises(InputError, match=f"1 to {MOST_PARTS} events"):
        Composed((Gaussian(1.0),) * (MOST_PARTS + 1))


@given(events)
def test_leaves_are_everything_that_was_done(event: Event) -> None:
    def counted(each: Event) -> int:
        match each:
            case Composed(parts):
                return sum(map(counted, parts))
            case SelfComposed(inner, count):
                return count * counted(inner)
            case _:
                return 1

    assert sum(count for _, count in leaves(event)) == counted(event)
    assert not any(isinstance(leaf, Composed | SelfComposed) for leaf, _ in leaves(event))


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


TRAINING = TrainingPlan(
    sampling_rate=0.25,
    noise_multiplier=3.0,
    clipping_norm=0.5,
    rounds=7,
    local_steps=2,
    local_learning_rate=0.1,
    lanes=4,
)


@pytest.mark.parametrize("unit", UNITS)
def test_a_plans_price_is_read_off_what_parametrises_the_mechanism(unit: PrivacyUnit) -> None:
    training = replace(TRAINING, unit=unit)
    evaluation = EvaluationPlan("binary", 10, 1, 9.0, unit)
    assert training.noise_std == 1.5
    assert training.round_event == PoissonGaussian(0.25, 3.0, 2, unit)
    assert training.event_after(3) == PoissonGaussian(0.25, 3.0, 6, unit)
    trained = PoissonGaussian(0.25, 3.0, 14, unit)
    evaluated = DiscreteGaussian(9.0, 1, unit)
    assert RunPlan(training, evaluation).event == Composed((trained, evaluated))
    statistics = StatisticsPlan("moments", 32, 11.0, unit)
    assert RunPlan(training, evaluation, statistics).event == Composed(
        (Gaussian(11.0, unit), trained, evaluated)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"clipping": AdaptiveClipping(kind="adaptive")},
        {"clipping": NormalizedClipping(kind="normalized")},
        {"update": "delta"},
        {"local_optimizer": LocalAdam(kind="adam")},
        {"records_per_unit": 5},
        {"loss": "squared"},
        {"lanes": 9},
        {"lane_groups": 3},
    ],
)
def test_what_does_not_change_the_mechanism_does_not_change_its_price(
    change: Mapping[str, object],
) -> None:
    changed = replace(TRAINING, **change)  # type: ignore[arg-type]
    assert changed != TRAINING
    assert changed.event == TRAINING.event


def test_a_plan_counts_its_coordinates() -> None:
    assert (TRAINING.thresholds, TRAINING.extra_coordinates) == (0, 4)
    adaptive = replace(TRAINING, clipping=AdaptiveClipping(kind="adaptive"))
    assert (adaptive.thresholds, adaptive.extra_coordinates) == (1, 5)
    layered = replace(adaptive, lane_groups=3)
    assert (layered.lane_coordinates, layered.extra_coordinates) == (12, 13)


@pytest.mark.parametrize(
    ("plan", "shape"),
    [
        (EvaluationPlan("binary", 10, 1, 1.0), (2, 10)),
        (EvaluationPlan("cross_entropy", 10, 7, 1.0), (7, 2)),
        (EvaluationPlan("squared", 10, 1, 1.0), (1, 10)),
    ],
)
def test_an_evaluations_table_fits_its_task(plan: EvaluationPlan, shape: tuple[int, int]) -> None:
    assert plan.shape == shape
