"""What costs privacy: guarantees, neighbours, and one frozen event per mechanism.

An event says what was done, never what it cost: accounting interprets it (`accounting.py`).
Neighbouring relation everywhere: add or remove one privacy unit at one site. The canonical,
versioned JSON of an event is the truth that a ledger keeps; anything else is a cache.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, assert_never, get_args

from sordino_protocols.errors import InputError
from sordino_protocols.event_fields import integer_field, number_field, only_fields, unit_field

EVENT_VERSION = 2

# What a stranger's ledger or certificate can make us compute ends here.
DEEPEST_NESTING = 8
MOST_PARTS = 100_000
MOST_REPETITIONS = 10**9
LARGEST_DISCRETE_STD = 1e5

PrivacyUnit = Literal["record", "entity"]
"""What a neighbour adds or removes: one record, or all records of one entity."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """(epsilon, delta) differential privacy under adding or removing one privacy unit."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        _require_positive(self.epsilon, "epsilon")
        _require(0 < self.delta < 1, "delta", "between 0 and 1, both excluded")


@dataclass(frozen=True, slots=True)
class PoissonGaussian:
    """Steps of the Gaussian mechanism on Poisson samples: DP-SGD (Abadi et al. 2016, alg. 1).

    Attributes:
        sampling_rate: probability with which each unit enters a step's batch; 1 is the full batch.
        noise_multiplier: noise standard deviation over the L2 sensitivity (the clipping norm).
        steps: how often the mechanism ran.
        unit: what entered a batch on a coin of its own, and was clipped as one.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int
    unit: PrivacyUnit = "record"

    def __post_init__(self) -> None:
        _require(0 < self.sampling_rate <= 1, "sampling_rate", "in (0, 1]")
        _require_positive(self.noise_multiplier, "noise_multiplier")
        _require_count(self.steps, "steps")


@dataclass(frozen=True, slots=True)
class Gaussian:
    """One release of a vector with Gaussian noise (Dwork & Roth 2014, thm. A.1).

    Attributes:
        noise_multiplier: noise standard deviation over the L2 sensitivity.
        unit: what the sensitivity is to.
    """

    noise_multiplier: float
    unit: PrivacyUnit = "record"

    def __post_init__(self) -> None:
        _require_positive(self.noise_multiplier, "noise_multiplier")


@dataclass(frozen=True, slots=True)
class DiscreteGaussian:
    """One release of whole numbers with discrete Gaussian noise (Canonne et al. 2020, def. 1).

    A unit changes one of the numbers, as it does in a table of counts where it is in one cell.

    Attributes:
        noise_std: the sigma of the noise, whose standard deviation is no larger.
        sensitivity: by how much a unit changes that number at most.
        unit: what the sensitivity is to.
    """

    noise_std: float
    sensitivity: int = 1
    unit: PrivacyUnit = "record"

    def __post_init__(self) -> None:
        holds = 0 < self.noise_std <= LARGEST_DISCRETE_STD
        _require(holds, "noise_std", f"> 0 and at most {LARGEST_DISCRETE_STD:g}")
        holds = isinstance(self.sensitivity, int) and 1 <= self.sensitivity <= LARGEST_DISCRETE_STD
        _require(holds, "sensitivity", f"an integer from 1 to {LARGEST_DISCRETE_STD:g}")


@dataclass(frozen=True, slots=True)
class Laplace:
    """One release of numbers, one of which a unit changes, with Laplace noise (Dwork et al. 2006).

    Attributes:
        noise_multiplier: scale of the noise over the sensitivity; the reciprocal of epsilon.
        unit: what the sensitivity is to.
    """

    noise_multiplier: float
    unit: PrivacyUnit = "record"

    def __post_init__(self) -> None:
        _require_positive(self.noise_multiplier, "noise_multiplier")


@dataclass(frozen=True, slots=True)
class DiscreteLaplace:
    """One release of whole numbers with two-sided geometric noise (Ghosh et al. 2009).

    Attributes:
        noise_multiplier: scale of the noise over the L1 sensitivity; the reciprocal of epsilon.
        unit: what the sensitivity is to.
    """

    noise_multiplier: float
    unit: PrivacyUnit = "record"

    def __post_init__(self) -> None:
        _require_positive(self.noise_multiplier, "noise_multiplier")


@dataclass(frozen=True, slots=True)
class ExponentialQuantile:
    """One quantile, drawn by the exponential mechanism (McSherry & Talwar 2007; Smith 2011).

    A value is drawn with probability proportional to exp(epsilon * score / (2 * sensitivity)),
    where the score is minus the distance of its rank from the wanted one.

    Attributes:
        epsilon: of the draw: what a unit can change the logarithm of a ratio of probabilities by.
        unit: what the sensitivity of the score is to.
    """

    epsilon: float
    unit: PrivacyUnit = "record"

    def __post_init__(self) -> None:
        _require_positive(self.epsilon, "epsilon")


@dataclass(frozen=True, slots=True)
class Exponential:
    """One choice among candidates, by the exponential mechanism (McSherry & Talwar 2007).

    A candidate is drawn with probability proportional to exp(epsilon * score / (2 * sensitivity)).

    Attributes:
        epsilon: of the choice: what a unit can change the logarithm of a ratio of probabilities by.
        unit: what the sensitivity of the score is to.
    """

    epsilon: float
    unit: PrivacyUnit = "record"

    def __post_init__(self) -> None:
        _require_positive(self.epsilon, "epsilon")


@dataclass(frozen=True, slots=True)
class Composed:
    """Several events on the same records, in any order."""

    events: tuple["Event", ...]

    def __post_init__(self) -> None:
        _require(1 <= len(self.events) <= MOST_PARTS, "events", f"1 to {MOST_PARTS} events")
        _require(len(set(map(unit_of, self.events))) == 1, "events", "all about one privacy unit")
        _require_bounded(self)


@dataclass(frozen=True, slots=True)
class SelfComposed:
    """One event, several times on the same records.

    Attributes:
        event: what was done each time.
        count: how often.
    """

    event: "Event"
    count: int

    def __post_init__(self) -> None:
        _require_count(self.count, "count")
        _require_bounded(self)


Choice = ExponentialQuantile | Exponential
"""One draw by the exponential mechanism, whatever from."""

Leaf = PoissonGaussian | Gaussian | DiscreteGaussian | Laplace | DiscreteLaplace | Choice
"""One mechanism, made of no other."""

Event = Leaf | Composed | SelfComposed


def unit_of(event: Event) -> PrivacyUnit:
    """Whom the event's guarantee is about."""
    match event:
        case Composed(events):
            return unit_of(events[0])
        case SelfComposed(inner):
            return unit_of(inner)
        case _:
            return event.unit


def leaves(event: Event) -> Iterator[tuple[Leaf, int]]:
    """What an event is made of, in order, each with how often it is repeated."""
    match event:
        case Composed(events):
            for part in events:
                yield from leaves(part)
        case SelfComposed(inner, count):
            for leaf, repetitions in leaves(inner):
                yield leaf, count * repetitions
        case _:
            yield event, 1


def _require_bounded(event: Composed | SelfComposed) -> None:
    _require(_depth(event) <= DEEPEST_NESTING, "events", f"nested at most {DEEPEST_NESTING} deep")
    counts = [
        count * (leaf.steps if isinstance(leaf, PoissonGaussian) else 1)
        for leaf, count in leaves(event)
    ]
    _require(len(counts) <= MOST_PARTS, "events", f"at most {MOST_PARTS} mechanisms")
    _require(sum(counts) <= MOST_REPETITIONS, "events", f"at most {MOST_REPETITIONS} repetitions")


def _depth(event: Event) -> int:
    match event:
        case Composed(events):
            return 1 + max(map(_depth, events))
        case SelfComposed(inner):
            return 1 + _depth(inner)
        case _:
            return 0


Mechanism = Literal[
    "poisson_gaussian",
    "gaussian",
    "discrete_gaussian",
    "laplace",
    "discrete_laplace",
    "exponential_quantile",
    "exponential",
    "composed",
    "self_composed",
]


def mechanism(event: Event) -> Mechanism:
    """The mechanism's name, as in its JSON, a metric label and a table column."""
    match event:
        case PoissonGaussian():
            return "poisson_gaussian"
        case Gaussian():
            return "gaussian"
        case DiscreteGaussian():
            return "discrete_gaussian"
        case Laplace():
            return "laplace"
        case DiscreteLaplace():
            return "discrete_laplace"
        case ExponentialQuantile():
            return "exponential_quantile"
        case Exponential():
            return "exponential"
        case Composed():
            return "composed"
        case SelfComposed():
            return "self_composed"
        case _:
            assert_never(event)


def event_to_json(event: Event) -> dict[str, object]:
    """The canonical, versioned form of an event, as a ledger stores it."""
    return {"event": mechanism(event), "version": EVENT_VERSION, **_fields(event)}


def _fields(event: Event) -> dict[str, object]:
    match event:
        case Composed(events):
            return {"events": [event_to_json(each) for each in events]}
        case SelfComposed(inner, count):
            return {"of": event_to_json(inner), "count": count}
        case _:
            return asdict(event)


def event_from_json(raw: Mapping[str, object]) -> Event:
    """Read an event back. An unknown one is an error, never priced as zero.

    Raises:
        InputError: unknown kind or version, a missing, surplus or ill-typed field, or more nesting
            or repetition than is ever priced.
    """
    return _read(raw, DEEPEST_NESTING)


def _read(raw: Mapping[str, object], depth: int) -> Event:
    if raw.get("version") == 1:
        raw = _second_version(raw)
    kind, version = raw.get("event"), raw.get("version")
    if version != EVENT_VERSION or type(version) is not int:
        raise InputError(f"event {kind!r} has version {version!r}; known: 1, {EVENT_VERSION}")
    match kind:
        case "composed":
            only_fields(raw, "events")
            if not isinstance(parts := raw["events"], list):
                raise InputError("event field 'events' must be a list of events")
            return Composed(tuple(_inner(part, depth) for part in parts))
        case "self_composed":
            only_fields(raw, "of", "count")
            return SelfComposed(_inner(raw["of"], depth), integer_field(raw, "count"))
        case _:
            return _read_leaf(raw)


def _read_leaf(raw: Mapping[str, object]) -> Leaf:
    match kind := raw.get("event"):
        case "poisson_gaussian":
            only_fields(raw, "sampling_rate", "noise_multiplier", "steps", "unit")
            rate, noise = number_field(raw, "sampling_rate"), number_field(raw, "noise_multiplier")
            return PoissonGaussian(rate, noise, integer_field(raw, "steps"), unit_field(raw))
        case "gaussian":
            return Gaussian(*_noise_and_unit(raw))
        case "laplace":
            return Laplace(*_noise_and_unit(raw))
        case "discrete_laplace":
            return DiscreteLaplace(*_noise_and_unit(raw))
        case "discrete_gaussian":
            only_fields(raw, "noise_std", "sensitivity", "unit")
            std, sensitivity = number_field(raw, "noise_std"), integer_field(raw, "sensitivity")
            return DiscreteGaussian(std, sensitivity, unit_field(raw))
        case "exponential_quantile":
            only_fields(raw, "epsilon", "unit")
            return ExponentialQuantile(number_field(raw, "epsilon"), unit_field(raw))
        case "exponential":
            only_fields(raw, "epsilon", "unit")
            return Exponential(number_field(raw, "epsilon"), unit_field(raw))
        case _:
            raise InputError(f"unknown event {kind!r}; known: {', '.join(get_args(Mechanism))}")


def _second_version(raw: Mapping[str, object]) -> Mapping[str, object]:
    """What the first version said, in the second: it knew no entities and three mechanisms."""
    kind = raw.get("event")
    is_known = kind in ("poisson_gaussian", "gaussian", "composed")
    if not is_known or "unit" in raw or type(raw["version"]) is not int:
        raise InputError(f"event {kind!r} is none of version 1")
    unit = {} if kind == "composed" else {"unit": "record"}
    return {**raw, "version": EVENT_VERSION, **unit}


def _inner(raw: object, depth: int) -> Event:
    if not isinstance(raw, dict) or depth == 0:
        raise InputError(f"events are made of events, nested at most {DEEPEST_NESTING} deep")
    return _read(raw, depth - 1)


def _noise_and_unit(raw: Mapping[str, object]) -> tuple[float, PrivacyUnit]:
    only_fields(raw, "noise_multiplier", "unit")
    return number_field(raw, "noise_multiplier"), unit_field(raw)


def _require(holds: bool, field: str, expectation: str) -> None:  # noqa: FBT001
    if not holds:
        raise InputError(f"{field} must be {expectation}")


def _require_positive(value: float, field: str) -> None:
    _require(math.isfinite(value) and value > 0, field, "> 0 and finite")


def _require_count(count: int, field: str) -> None:
    # A numpy integer or a bool would come back from JSON as something else.
    holds = type(count) is int and 1 <= count <= MOST_REPETITIONS
    _require(holds, field, f"an integer from 1 to {MOST_REPETITIONS}")
