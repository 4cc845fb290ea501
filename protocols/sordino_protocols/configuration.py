"""A configuration in layers: flags > environment > drop-ins > file > defaults.

Each layer can say any key, and the topmost that says it counts. Where a value came from is kept, so
that "which file says that?" has an answer (`sordino config show --origin`), and so that an error
names the file and line, or the variable, that a person has to mend. What must stay true: what the
layers come to is checked as strictly as one file, whichever layer an unknown key stands in.

What `--set SECTION.KEY=VALUE` says goes from a command to the daemon, and from there to the
processes that it starts, in one variable, so that all of them read the same.
"""

import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Generic, Literal, get_args, get_origin

from pydantic import BaseModel

from sordino_protocols.errors import InputError
from sordino_protocols.files import (
    Location,
    Model,
    kinds_at,
    load_toml,
    parse_values,
    read_text,
    spell_key,
)
from sordino_protocols.standard_paths import Role
from sordino_protocols.toml_positions import Place, line_numbers

Layer = Literal["flag", "environment", "drop-in", "file", "default"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from.

    Attributes:
        layer: which layer said it.
        place: the file with the line, the variable, or the flag; empty for a default.
    """

    layer: Layer
    place: str = ""


_DEFAULT = Origin("default")
_SET = "--set"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key as it counts.

    Attributes:
        key: as a person writes it: `link.server`.
        value: what it is; None for one that nobody set and that has no default.
        origin: who said it.
    """

    key: str
    value: object
    origin: Origin


@dataclass(frozen=True, slots=True)
class Layered(Generic[Model]):
    """What the layers come to.

    Attributes:
        value: the configuration, checked.
        origins: who said what; a key that is not in it is a default.
    """

    value: Model
    origins: Mapping[Location, Origin]

    def settings(self) -> tuple[Setting, ...]:
        """Every key, in the order of the model: what was set, and what is left at its default."""
        return tuple(_settings(self.value, (), self.origins))


def settings_environment(role: Role, settings: Sequence[str]) -> dict[str, str]:
    """What to add to an environment so that a configuration is read with these settings.

    Args:
        role: whose configuration.
        settings: as `--set` was given them, `SECTION.KEY=VALUE`; the last one of a key counts.

    Raises:
        InputError: one is spelled differently. Does not repeat its value.
    """
    for each in settings:
        _read_setting(each)
    return {_settings_variable(role): json.dumps(list(settings))} if settings else {}


def read_layers(
    path: Path | None,
    model: type[Model],
    *,
    role: Role,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[tuple[str, str], object] | None = None,
) -> Layered[Model]:
    """Read a configuration in all its layers.

    Drop-ins are the files `<stem>.d/*.toml` beside the file, in the order of their names; a later
    one counts more. A variable is called `SORDINO_<ROLE>__<SECTION>__<KEY>`; one that is empty says
    nothing. What `settings_environment` added counts as flags do, and less than those in `flags`.
    Relative paths are the caller's to resolve, and start at the file, whoever says them.

    Args:
        path: the file; None for a configuration without one.
        model: what the layers together must be.
        role: whose configuration it is, which its variables begin with.
        environ: the environment; None means this process's.
        flags: what the command line says, by key; a value that is None says nothing.

    Raises:
        NotFoundError: there is no such file.
        InputError: a layer cannot be read, or what they come to breaks the model. One line a
            problem: file and line (or variable), key, expectation.
    """
    merge = _Merge()
    if path is not None:
        merge.add_file(path, layer="file")
        for each in _drop_ins(path):
            merge.add_file(each, layer="drop-in")
    for location, name, text in _variables(role, os.environ if environ is None else environ):
        value = _read_variable(text, kinds_at(location, model))
        merge.add_value(location, value, Origin("environment", name))
    for location, text in _settings_said(role, os.environ if environ is None else environ):
        value = _read_variable(text, kinds_at(location, model))
        merge.add_value(location, value, Origin("flag", _SET))
    for location, value in (flags or {}).items():
        if value is not None:
            flag = f"--{str(location[-1]).replace('_', '-')}"
            merge.add_value(location, value, Origin("flag", flag))
    whole = str(path) if path is not None else f"{role} configuration"

    def place(location: Location) -> str:
        nearest = _nearest(merge.origins, location)
        return whole if nearest is None else nearest.place

    return Layered(parse_values(merge.values, model, place=place), merge.origins)


def drop_in_directory(path: Path) -> Path:
    """Where the drop-ins of a configuration lie: `site.d` beside `site.toml`."""
    return path.with_suffix(".d")


class _Merge:
    """Values of several layers, and who said them."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.origins: dict[Location, Origin] = {}

    def add_file(self, path: Path, *, layer: Layer) -> None:
        text, source = read_text(path), str(path)
        values = load_toml(text, source=source)
        lines = _lines(text, source)

        def origin(location: Location) -> Origin:
            line = lines.get(location)
            return Origin(layer, source if line is None else f"{source}:{line}")

        self._merge(self.values, values, (), origin)

    def add_value(self, location: Location, value: object, origin: Origin) -> None:
        tree: object = value
        for step in reversed(location):
            tree = {str(step): tree}
        if isinstance(tree, dict):
            self._merge(self.values, tree, (), lambda _: origin)

    def _merge(
        self,
        into: dict[str, object],
        layer: Mapping[str, object],
        location: Location,
        origin: Callable[[Location], Origin],
    ) -> None:
        for key, value in layer.items():
            here = (*location, key)
            below = into.get(key)
            if isinstance(value, dict):
                if not isinstance(below, dict):
                    below = into[key] = {}
                self.origins.setdefault(here, origin(here))
                self._merge(below, value, here, origin)
            else:
                self._forget(here)
                into[key] = value
                self.origins[here] = origin(here)

    def _forget(self, location: Location) -> None:
        """A table that a value replaces: nobody said its keys any more."""
        for each in [each for each in self.origins if each[: len(location)] == location]:
            del self.origins[each]


def _lines(text: str, source: str) -> Mapping[Place, int]:
    try:
        return line_numbers(text)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _drop_ins(path: Path) -> list[Path]:
    """The drop-ins beside a file, the one that counts most last."""
    directory = drop_in_directory(path)
    try:
        found = sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"{directory}: cannot be read: {error.strerror}") from None
    return [each for each in found if each.suffix == ".toml" and not each.name.startswith(".")]


def _variables(role: Role, environ: Mapping[str, str]) -> Iterator[tuple[Location, str, str]]:
    """Keys that the environment says: location, name of the variable, text."""
    prefix = f"SORDINO_{role.upper()}__"
    for name in sorted(environ):
        if name.startswith(prefix) and environ[name]:
            steps = tuple(name.removeprefix(prefix).lower().split("__"))
            if not all(steps):
                raise InputError(f"{name}: expected {prefix}SECTION__KEY")
            yield steps, name, environ[name]


def _settings_variable(role: Role) -> str:
    return f"SORDINO_{role.upper()}_SET"


def _settings_said(role: Role, environ: Mapping[str, str]) -> Iterator[tuple[Location, str]]:
    """Keys that `--set` says, here or in the process that started this one."""
    name = _settings_variable(role)
    try:
        said: object = json.loads(environ.get(name) or "[]")
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        raise InputError(f"{name}: is handed on by {_SET}, and was changed; unset it")
    yield from map(_read_setting, said)


def _read_setting(setting: str) -> tuple[Location, str]:
    """Key and value of `SECTION.KEY=VALUE`."""
    key, equals, text = setting.partition("=")
    steps = tuple(key.strip().split("."))
    if not equals or not all(steps):
        raise InputError(f"{_SET} {key}: expected SECTION.KEY=VALUE")
    return steps, text.strip()


def _read_variable(text: str, kinds: Sequence[object]) -> object:
    """A text as its key wants it: words as they are, everything else as in TOML."""
    if any(_is_word(kind) for kind in kinds):
        return text
    try:
        read = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text  # and the model will say what was expected
    return read["value"] if len(read) == 1 else text


def _is_word(kind: object) -> bool:
    if get_origin(kind) is Literal:
        return any(isinstance(each, str) for each in get_args(kind))
    return isinstance(kind, type) and issubclass(kind, str | Path | Enum)


def _nearest(origins: Mapping[Location, Origin], location: Location) -> Origin | None:
    """Who said a key, or the nearest table around it."""
    while location:
        if location in origins:
            return origins[location]
        location = location[:-1]
    return None


def _settings(
    table: BaseModel, location: Location, origins: Mapping[Location, Origin]
) -> Iterator[Setting]:
    for name, info in type(table).model_fields.items():
        here = (*location, info.alias or name)
        value: object = getattr(table, name)
        if isinstance(value, BaseModel):
            yield from _settings(value, here, origins)
        else:
            yield Setting(spell_key(here), value, origins.get(here, _DEFAULT))
