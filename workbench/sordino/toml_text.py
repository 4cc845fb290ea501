"""TOML as a program writes it for a person: it reads back as exactly what it was made from."""

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(tables: Mapping[str, Mapping[str, object]], *, comments: Sequence[str] = ()) -> str:
    """The text of a file of tables.

    A list of tables gets a line for each of them; what is inside stays on that line. A key whose
    value is None is left out: TOML has no word for it.

    Args:
        tables: by name; values are text, booleans, numbers, dates, and lists and mappings of such.
        comments: lines at the top of the file.

    Raises:
        TypeError: a value that TOML cannot spell.
    """
    parts = [f"# {line}".rstrip() for line in comments]
    for name, table in tables.items():
        parts += ["", f"[{_key(name)}]"] if parts else [f"[{_key(name)}]"]
        parts += [f"{_key(key)} = {_value(each)}" for key, each in _present(table)]
    return "\n".join(parts) + "\n"


def inline_list(tables: Sequence[Mapping[str, object]]) -> str:
    """A list of tables, one a line.

    Raises:
        TypeError: as `toml_text`.
    """
    return "[\n" + "".join(f"  {_inline(table)},\n" for table in tables) + "]"


def _value(value: object) -> str:
    """A value behind a key, where a list may go over several lines."""
    if isinstance(value, list | tuple) and value and all(isinstance(v, Mapping) for v in value):
        return inline_list(value)
    return _inline(value)


def _inline(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value)
        case dt.date() | dt.time():
            return value.isoformat()
        case str():
            # A TOML string is a JSON string that also spells the one character "delete".
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return "[" + ", ".join(_inline(each) for each in value) + "]"
        case Mapping():
            pairs = (f"{_key(str(key))} = {_inline(each)}" for key, each in _present(value))
            inside = ", ".join(pairs)
            return f"{{ {inside} }}" if inside else "{}"
        case _:
            raise TypeError(f"TOML cannot spell {value!r}")


def _present(table: Mapping[str, object]) -> list[tuple[str, object]]:
    return [(key, value) for key, value in table.items() if value is not None]


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _inline(key)
