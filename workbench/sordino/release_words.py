"""What a mechanism did, in words, from its event as a ledger or a certificate stores it."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from sordino_protocols.errors import InputError
from sordino_protocols.privacy import (
    Composed,
    Event,
    Mechanism,
    SelfComposed,
    event_from_json,
    event_to_json,
    mechanism,
)

_HIDDEN = frozenset({"event", "version", "unit"})
_MECHANISMS: Mapping[Mechanism, str] = {
    "poisson_gaussian": "Gaussian noise on the clipped sum of a Poisson sample",
    "gaussian": "Gaussian noise",
    "discrete_gaussian": "discrete Gaussian noise on counts",
    "laplace": "Laplace noise",
    "discrete_laplace": "discrete Laplace noise on counts",
    "exponential": "a noisy choice",
    "exponential_quantile": "a noisy quantile",
}


def release_in_words(stored: Mapping[str, JsonValue]) -> str:
    """One release; of many mechanisms together, each kind with its range of settings.

    Args:
        stored: canonical JSON of a `privacy.Event`; of any other, its name is what is said.
    """
    try:
        leaves = _leaves(event_from_json(stored))
    except InputError:
        return str(stored.get("event", "?")).replace("_", " ")
    kinds = dict[Mechanism, Counter[Event]]()
    for event, times in leaves.items():
        kinds.setdefault(mechanism(event), Counter())[event] += times
    return "; ".join(_kind_in_words(kind, events) for kind, events in kinds.items())


def _leaves(event: Event) -> Counter[Event]:
    """How often each mechanism runs in an event."""
    match event:
        case Composed(events):
            return sum((_leaves(each) for each in events), Counter[Event]())
        case SelfComposed(inner, count):
            return Counter({leaf: count * times for leaf, times in _leaves(inner).items()})
        case _:
            return Counter({event: 1})


def _kind_in_words(kind: Mechanism, events: Counter[Event]) -> str:
    settings = [event_to_json(event) for event in events]
    facts = ", ".join(
        f"{key.replace('_', ' ')} {_range([each[key] for each in settings])}"
        for key in settings[0]
        if key not in _HIDDEN
    )
    times = f", {events.total()} times" if events.total() > 1 else ""
    return f"{_MECHANISMS.get(kind, kind.replace('_', ' '))}{times}: {facts}"


def _range(values: Sequence[object]) -> str:
    numbers = [each for each in values if isinstance(each, int | float)]
    if len(numbers) < len(values) or len(set(numbers)) == 1:
        return _short(values[0])
    return f"{_short(min(numbers))} to {_short(max(numbers))}"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
