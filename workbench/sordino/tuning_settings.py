"""What is tried: one job for each combination of the wanted settings.

A setting is a dotted key of a job file and the values that it may take. Every trial goes through
the same strict reader as a file that a person wrote, and all are read before the first is run.
"""

import copy
import itertools
import math
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sordino.toml_text import toml_text
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml, read_text
from sordino_protocols.job import JobFile

Method = Literal["grid", "random"]
MOST_TRIALS = 1000


@dataclass(frozen=True, slots=True)
class Choice:
    """A key of a job file, such as `training.clipping_norm`, and the values to try."""

    key: str
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """One job to try.

    Attributes:
        number: from 1.
        settings: the values of all choices, by key.
        file: the job file with these values in it.
        source: what errors call it: the file, and the settings.
    """

    number: int
    settings: Mapping[str, object]
    file: JobFile
    source: str


def read_choices(texts: Sequence[str]) -> tuple[Choice, ...]:
    """Read `key=value,value` texts; values are TOML, and a bare word is text.

    Raises:
        InputError: a text of another form, a key that comes twice, or a value that comes twice.
    """
    choices = tuple(map(_read_choice, texts))
    keys = [choice.key for choice in choices]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"--set {key}: comes twice; give all its values at once")
    return choices


def read_trials(
    path: Path, choices: Sequence[Choice], *, method: Method, limit: int | None, seed: int
) -> tuple[Trial, ...]:
    """The jobs to try, in the order in which they are to run.

    Args:
        path: the job file that the settings are put into.
        choices: what to vary; none gives one trial, the file as it is.
        method: "grid" tries every combination; "random" `limit` different ones, drawn evenly.
        limit: the most trials; None: 10 for "random".
        seed: for the draw. Public: nothing private is drawn with it.

    Raises:
        NotFoundError: there is no such file.
        InputError: the file is wrong, or a combination makes it so (names file, settings, key and
            what was expected); or a grid has more trials than the limit.
    """
    text = read_text(path)
    parse_toml(text, JobFile, source=str(path))
    raw = tomllib.loads(text)
    combinations = _combinations(choices, method=method, limit=limit, seed=seed)
    return tuple(
        _trial(number, raw, dict(zip((c.key for c in choices), values, strict=True)), str(path))
        for number, values in enumerate(combinations, start=1)
    )


def spell_settings(settings: Mapping[str, object]) -> str:
    """The settings of one trial, on one line."""
    return ", ".join(f"{key} = {spell_value(value)}" for key, value in settings.items())


def spell_value(value: object) -> str:
    """A setting as TOML."""
    return toml_text({"x": {"x": value}}).split(" = ", 1)[1].strip().replace("\n", " ")


def _read_choice(text: str) -> Choice:
    key, equals, values = text.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")) or not values.strip():
        raise InputError(
            f"--set {text}: expected key=value,value, as in optimizer.learning_rate=1,2"
        )
    read = _read_values(values)
    if any(first == second for first, second in itertools.combinations(read, 2)):
        raise InputError(f"--set {key}: a value comes twice")
    return Choice(key, read)


def _read_values(text: str) -> tuple[object, ...]:
    try:
        return tuple(tomllib.loads(f"values = [{text}]")["values"])
    except tomllib.TOMLDecodeError:
        # Words without quotes, which a shell would have eaten.
        return tuple(map(_read_value, text.split(",")))


def _read_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _combinations(
    choices: Sequence[Choice], *, method: Method, limit: int | None, seed: int
) -> list[tuple[object, ...]]:
    count = math.prod(len(choice.values) for choice in choices)
    most = limit or (10 if method == "random" else MOST_TRIALS)
    if method == "grid" and count > most:
        raise InputError(
            f"the grid has {count} trials, more than {most}: try fewer values, or --method random"
        )
    if method == "grid" or count <= most:
        return list(itertools.product(*(choice.values for choice in choices)))
    # No secret hangs on which trials are run.
    drawn = random.Random(seed).sample(range(count), most)  # noqa: S311
    return [_at(choices, index) for index in sorted(drawn)]


def _at(choices: Sequence[Choice], index: int) -> tuple[object, ...]:
    """The combination at a place of the grid, without making the others."""
    values: list[object] = []
    for choice in reversed(choices):
        index, place = divmod(index, len(choice.values))
        values.insert(0, choice.values[place])
    return tuple(values)


def _trial(
    number: int, raw: Mapping[str, object], settings: dict[str, object], source: str
) -> Trial:
    tables = copy.deepcopy(dict(raw))
    for key, value in settings.items():
        _put(tables, key, value)
    if settings:
        source = f"{source} with {spell_settings(settings)}"
    file = parse_toml(toml_text(_checked(tables)), JobFile, source=source)
    return Trial(number, settings, file, source)


def _put(tables: dict[str, object], key: str, value: object) -> None:
    *path, last = key.split(".")
    table = tables
    for depth, name in enumerate(path, start=1):
        below = table.setdefault(name, {})
        if not isinstance(below, dict):
            raise InputError(f"--set {key}: {'.'.join(path[:depth])} is no table")
        table = below
    table[last] = value


def _checked(tables: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise InputError(f"--set {name}: is a table; set a key of it, such as {name}.kind")
    return {name: table for name, table in tables.items() if isinstance(table, Mapping)}
