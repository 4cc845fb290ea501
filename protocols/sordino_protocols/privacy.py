"""What costs privacy: guarantees, neighbours, and one frozen event per mechanism.

An event says what was done, never what it cost: accounting interprets it (`accounting.py`).
Neighbouring relation everywhere: add or remove one privacy unit at one site. The canonical,
versioned JSON of an event is the truth that a ledger keeps; anything else is a cache.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sordino_protocols.errors import InputError

EVENT_VERSION = 2
# Version 1 knew no entities: its events are about records.
_KNOWN_VERSIONS = (1, EVENT_VERSION)

PrivacyUnit = Literal["record", "entity"]
"""What a neighbour adds or removes: one record, or all records of one entity."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """(epsilon, delta) differential privacy under adding or removing one privacy unit."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        _require(math.isfinite(self.epsilon) and self.epsilon > 0, "epsilon", "> 0 and finite")
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
        _require_noise(self.noise_multiplier)
        _require(self.steps >= 1, "steps", ">= 1")


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
        _require_noise(self.noise_multiplier)


@dataclass(frozen=True, slots=True)
class Composed:
    """Several events on the same records, in any order."""

    events: tuple["Event", ...]

    def __post_init__(self) -> None:
        _require(len(self.events) >= 1, "events", "at least one event")
        _require(len(set(map(unit_of, self.events))) == 1, "events", "all about one privacy unit")


Event = PoissonGaussian | Gaussian | Composed


def unit_of(event: Event) -> PrivacyUnit:
    """Whom the event's guarantee is about."""
    match event:
        case PoissonGaussian() | Gaussian():
            return event.unit
        case Composed(events):
            return unit_of(events[0])


def event_to_json(event: Event) -> dict[str, object]:
    """The canonical, versioned form of an event, as a ledger stores it."""
    match event:
        case PoissonGaussian(sampling_rate, noise_multiplier, steps, unit):
            return {
                "event": "poisson_gaussian",
                "version": EVENT_VERSION,
                "sampling_rate": sampling_rate,
                "noise_multiplier": noise_multiplier,
                "steps": steps,
                "unit": unit,
            }
        case Gaussian(noise_multiplier, unit):
            return {
                "event": "gaussian",
                "version": EVENT_VERSION,
                "noise_multiplier": noise_multiplier,
                "unit": unit,
            }
        case Composed(events):
            return {
                "event": "composed",
                "version": EVENT_VERSION,
                "events": [event_to_json(each) for each in events],
            }


def event_from_json(raw: Mapping[str, object]) -> Event:
    """Read an event back. An unknown one is an error, never priced as zero.

    Raises:
        InputError: unknown kind or version, a missing, surplus or ill-typed field.
    """
    kind = raw.get("event")
    version = raw.get("version")
    if version not in _KNOWN_VERSIONS or not isinstance(version, int) or isinstance(version, bool):
        known = ", ".join(map(str, _KNOWN_VERSIONS))
        raise InputError(f"event {kind!r} has version {version!r}; known: {known}")
    unit_field = () if version == 1 else ("unit",)
    match kind:
        case "poisson_gaussian":
            _only(raw, "sampling_rate", "noise_multiplier", "steps", *unit_field)
            steps = raw["steps"]
            if not isinstance(steps, int) or isinstance(steps, bool):
                raise InputError("event field 'steps' must be an integer")
            return PoissonGaussian(
                _number(raw, "sampling_rate"),
                _number(raw, "noise_multiplier"),
                steps,
                _unit(raw),
            )
        case "gaussian":
            _only(raw, "noise_multiplier", *unit_field)
            return Gaussian(_number(raw, "noise_multiplier"), _unit(raw))
        case "composed":
            _only(raw, "events")
            parts = raw["events"]
            if not isinstance(parts, list) or not all(isinstance(p, dict) for p in parts):
                raise InputError("event field 'events' must be a list of events")
            return Composed(tuple(event_from_json(part) for part in parts))
        case _:
            raise InputError(f"unknown event {kind!r}; known: poisson_gaussian, gaussian, composed")


Mechanism = Literal["poisson_gaussian", "gaussian", "composed"]


def mechanism(event: Event) -> Mechanism:
    """The mechanism's name, as a metric label and a table column."""
    match event:
        case PoissonGaussian():
            return "poisson_gaussian"
        case Gaussian():
            return "gaussian"
        case Composed():
            return "composed"


def _only(raw: Mapping[str, object], *fields: str) -> None:
    expected = {"event", "version", *fields}
    if set(raw) != expected:
        raise InputError(f"event {raw.get('event')!r} must have exactly {sorted(expected)}")


def _unit(raw: Mapping[str, object]) -> PrivacyUnit:
    match raw.get("unit", "record"):
        case "record":
            return "record"
        case "entity":
            return "entity"
        case unit:
            raise InputError(f"event field 'unit' is {unit!r}; known: record, entity")


def _number(raw: Mapping[str, object], field: str) -> float:
    value = raw[field]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError(f"event field {field!r} must be a number")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"event field {field!r} must be a number of ordinary size") from None


def _require(holds: bool, field: str, expectation: str) -> None:  # noqa: FBT001
    if not holds:
        raise InputError(f"{field} must be {expectation}")


def _require_noise(noise_multiplier: float) -> None:
    _require(
        math.isfinite(noise_multiplier) and noise_multiplier > 0,
        "noise_multiplier",
        "> 0 and finite",
    )
