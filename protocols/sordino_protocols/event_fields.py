"""The fields of an event's JSON, read one by one and checked: a stranger may have written it.

Split from `privacy`, which says what the fields mean.
"""

from collections.abc import Mapping
from typing import Literal

from sordino_protocols.errors import InputError


def only_fields(raw: Mapping[str, object], *fields: str) -> None:
    """Return if an event has these fields beside its kind and version, and no others.

    Raises:
        InputError: one is missing or surplus.
    """
    expected = {"event", "version", *fields}
    if set(raw) != expected:
        raise InputError(f"event {raw.get('event')!r} must have exactly {sorted(expected)}")


def integer_field(raw: Mapping[str, object], field: str) -> int:
    """A whole number.

    Raises:
        InputError: it is none.
    """
    value = raw[field]
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"event field {field!r} must be an integer")
    return value


def number_field(raw: Mapping[str, object], field: str) -> float:
    """A number.

    Raises:
        InputError: it is none, or too large for one.
    """
    value = raw[field]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError(f"event field {field!r} must be a number")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"event field {field!r} must be a number of ordinary size") from None


def unit_field(raw: Mapping[str, object]) -> Literal["record", "entity"]:
    """Whom the event is about.

    Raises:
        InputError: nobody we know.
    """
    match raw["unit"]:
        case "record" | "entity" as unit:
            return unit
        case unit:
            raise InputError(f"event field 'unit' is {unit!r}; known: record, entity")
