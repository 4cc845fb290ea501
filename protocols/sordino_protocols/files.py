"""Files a person writes, read strictly; files a machine writes, never overwritten.

A typo in a site's policy must not become a default. So every such file is a strict pydantic model
(`model_config = STRICT`), and what is wrong comes back as an `InputError` that names the file, the
key and what was expected. The text never repeats a value: a file may hold a password.
"""

import datetime as dt
import difflib
import json
import math
import os
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from sordino_protocols.errors import InputError, NotFoundError

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]

STRICT = ConfigDict(
    extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True
)
"""The `model_config` of every model of a file that a person writes."""

LARGEST_FILE_BYTES = 4 * 1024 * 1024
_SHOWN_PROBLEMS = 8


def read_toml(path: Path, model: type[Model]) -> Model:
    """Read a TOML file into `model`.

    Raises:
        NotFoundError: there is no such file.
        InputError: it cannot be read, is larger than 4 MiB, is not TOML, or breaks the model.
    """
    return parse_toml(read_text(path), model, source=str(path))


def parse_toml(text: str, model: type[Model], *, source: str) -> Model:
    """Read TOML text into `model`; errors call it `source`.

    An integer is accepted where a float is expected, and what TOML cannot spell is read from what
    it can: tuples from arrays; paths, enums from strings. Nothing else is converted.

    Raises:
        InputError: not TOML, or it breaks the model. One line a problem: file, key, expectation,
            and for an unknown key the nearest known one.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source}: not valid TOML: {error}") from None
    _require_finite(raw, source, ())
    try:
        # JSON mode is as strict as Python's but for tuples, paths and enums.
        return model.model_validate_json(json.dumps(raw, default=_spell_date), strict=True)
    except ValidationError as error:
        raise InputError(_describe(error.errors(include_input=False), model, source)) from None


def with_absolute_paths(section: Model, directory: Path) -> Model:
    """A copy of a file's section whose relative paths start at `directory`, where the file lies."""
    values = {name: getattr(section, name) for name in type(section).model_fields}
    paths = {name: directory / value for name, value in values.items() if isinstance(value, Path)}
    return section.model_copy(update=paths)


def read_text(path: Path) -> str:
    """Read a UTF-8 text file of at most 4 MiB.

    Raises:
        NotFoundError: there is no such file.
        InputError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_FILE_BYTES:
        raise InputError(f"{path}: larger than {LARGEST_FILE_BYTES} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None


def write_secret(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read, at no instant anybody else.

    Missing directories are made, for the owner alone.

    Raises:
        InputError: the path exists (nothing is overwritten) or cannot be written.
    """
    _write_new(path, content, mode=0o600, directory_mode=0o700)


def write_public(path: Path, content: bytes) -> None:
    """Write a new file that everybody may read (less the umask).

    Raises:
        InputError: the path exists (nothing is overwritten) or cannot be written.
    """
    _write_new(path, content, mode=0o644, directory_mode=0o755)


def _write_new(path: Path, content: bytes, *, mode: int, directory_mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        path.parent.mkdir(mode=directory_mode, parents=True, exist_ok=True)
        descriptor = os.open(path, flags, mode)
    except FileExistsError:
        raise InputError(f"{path}: exists already; move it away first") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _require_finite(value: object, source: str, location: Location) -> None:
    match value:
        case dict():
            for key, each in value.items():
                _require_finite(each, source, (*location, key))
        case list():
            for index, each in enumerate(value):
                _require_finite(each, source, (*location, index))
        case float() if not math.isfinite(value):
            raise InputError(f"{source}: {_spell(location)}: must be finite, not nan or inf")
        case _:
            pass


def _spell_date(value: object) -> str:
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    raise TypeError(f"TOML has no {type(value).__name__}")


def _describe(problems: Sequence[ErrorDetails], model: type[BaseModel], source: str) -> str:
    lines = [f"{source}: {_describe_one(each, model)}" for each in problems[:_SHOWN_PROBLEMS]]
    if len(problems) > _SHOWN_PROBLEMS:
        lines.append(f"{source}: and {len(problems) - _SHOWN_PROBLEMS} more")
    return "\n".join(lines)


def _describe_one(problem: ErrorDetails, model: type[BaseModel]) -> str:
    location, places = _resolve(problem["loc"], model)
    key = _spell(location)
    match problem["type"]:
        case "missing":
            return f"{key}: missing; this key is required"
        case "extra_forbidden":
            return f"{key}: unknown key; {_suggest(str(location[-1]), list(_fields(places)))}"
        case "union_tag_invalid" | "union_tag_not_found":
            # A key, or a function of ours that reads it and is called `_kind` after it.
            tag = problem.get("ctx", {})["discriminator"].strip("'_()")
            values = ", ".join(repr(value) for place in places for value in _tags(place, tag))
            return f"{_spell((*location, tag))}: must be one of {values}"
        case "value_error":
            return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
        case _:
            message = problem["msg"].removeprefix("Input ")
            return f"{key}: {message[:1].lower()}{message[1:]}"


def _suggest(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _spell(location: Location) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".") or "(whole file)"


def _resolve(location: Location, model: type[BaseModel]) -> tuple[Location, Sequence[object]]:
    """The location without pydantic's labels of union members, and the types it leads to.

    An unknown key leads to the types that it stands in.
    """
    path: list[int | str] = []
    here: Sequence[object] = [model]
    for step in location:
        labelled = [place for place in here if _is_label(step, place)]
        # A label may be spelled as a key of a member: it leads to the member, not into it.
        is_label = bool(labelled) and len(here) > 1
        below = [] if is_label else [each for place in here for each in _below(place, step)]
        if below or not labelled:
            path.append(step)
        here = [kind for each in below for kind in _alternatives(each)] or labelled or here
    return tuple(path), here


def _below(place: object, step: int | str) -> Iterator[object]:
    """The annotations that one step of a location leads to."""
    if get_origin(place) is not None:
        # The values of a mapping, or the items of a tuple or a list.
        yield from get_args(place)[1:] if isinstance(step, str) else get_args(place)
    elif str(step) in _fields([place]):
        yield _fields([place])[str(step)].annotation


def _alternatives(annotation: object) -> Iterator[object]:
    """The members of a union, flat; anything else is its own only member."""
    if hasattr(annotation, "__metadata__"):
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _alternatives(each)
    else:
        yield annotation


def _fields(places: Sequence[object]) -> Mapping[str, FieldInfo]:
    """The keys that a person may write in a table of one of these types."""
    return {
        info.alias or name: info
        for place in places
        if isinstance(place, type) and issubclass(place, BaseModel)
        for name, info in place.model_fields.items()
    }


def _is_label(step: int | str, place: object) -> bool:
    if step == getattr(place, "__name__", None) or (isinstance(step, str) and "[" in step):
        return True
    return any(step in _tags(place, name) for name in _fields([place]))


def _tags(place: object, key: str) -> tuple[object, ...]:
    info = _fields([place]).get(key)
    literal = info is not None and get_origin(info.annotation) is Literal
    return get_args(info.annotation) if info is not None and literal else ()
