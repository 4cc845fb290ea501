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
import stat
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from sordino_protocols.errors import InputError, NotFoundError

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]
Places = Callable[[Location], str]
"""Where a person finds a key: the file, with its line where that is known."""

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


def parse_toml(
    text: str,
    model: type[Model],
    *,
    source: str,
    lines: Mapping[Location, int] | None = None,
) -> Model:
    """Read TOML text into `model`; errors call it `source`.

    An integer is accepted where a float is expected, and what TOML cannot spell is read from what
    it can: tuples from arrays; paths, enums from strings. Nothing else is converted.

    Args:
        text: the file's.
        model: what it must be.
        source: the file's name.
        lines: where its keys stand, for errors that say it.

    Raises:
        InputError: not TOML, or it breaks the model. One line a problem: file, key, expectation,
            and for an unknown key the nearest known one.
    """
    return parse_values(
        load_toml(text, source=source),
        model,
        place=lambda location: f"{source}{_line(location, lines or {})}",
    )


def load_toml(text: str, *, source: str) -> dict[str, object]:
    """The values in TOML text, as they are; errors call it `source`.

    Raises:
        InputError: not TOML.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{source}: not valid TOML for us: nested too deeply") from None
    except ValueError as error:  # tomllib's own, and Python's of a number with 5,000 digits
        raise InputError(f"{source}: not valid TOML: {error}") from None


def parse_values(values: Mapping[str, object], model: type[Model], *, place: Places) -> Model:
    """Read values that `tomllib` gave into `model`, as strictly as `parse_toml`.

    Args:
        values: tables, arrays and scalars.
        model: what they must be.
        place: where a key stands, for errors.

    Raises:
        InputError: they break the model. One line a problem, as `parse_toml` says it.
    """
    try:
        _require_finite(values, place, ())
        spelled = json.dumps(values, default=_spell_date)
    except RecursionError:
        raise InputError(f"{place(())}: not valid TOML for us: nested too deeply") from None
    except ValueError as error:  # Python's, of a number with 5,000 digits
        raise InputError(f"{place(())}: not valid TOML: {error}") from None
    try:
        # JSON mode is as strict as Python's but for tuples, paths and enums.
        return model.model_validate_json(spelled, strict=True)
    except ValidationError as error:
        raise InputError(_describe(error.errors(include_input=False), model, place)) from None


def kinds_at(location: Location, model: type[BaseModel]) -> Sequence[object]:
    """The types that a key of `model` may have, unions taken apart.

    Of a key that is not known, they are those of the table around it.
    """
    return _resolve(location, model)[1]


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
    return _decode(_read(path, is_secret=False), path)


def read_secret(path: Path) -> bytes:
    """Read a file of at most 4 MiB that holds a key or a password, and is its owner's alone.

    Whose it is, is asked of the very file that is read: nobody can swap it in between.

    Raises:
        NotFoundError: there is no such file.
        InputError: others than its owner may do anything with it, it cannot be read, or is too
            large. Names the file and its mode, and never what is in it.
    """
    return _read(path, is_secret=True)


def read_secret_text(path: Path) -> str:
    """Read as `read_secret`, and as UTF-8.

    Raises:
        NotFoundError: there is no such file.
        InputError: as `read_secret`, or it is not UTF-8.
    """
    return _decode(read_secret(path), path)


def require_private(path: Path, mode: int) -> None:
    """Return if a file's mode lets nobody in but its owner.

    Args:
        path: the file, for the error.
        mode: as `stat` gives it.

    Raises:
        InputError: it lets others in; names the mode, and what mends it.
    """
    if stat.S_IMODE(mode) & 0o077:
        raise InputError(
            f"{path}: holds a secret that others may read (mode {stat.S_IMODE(mode):04o});"
            f" fix: chmod 600 {path}"
        )


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


def replace_public(path: Path, content: bytes) -> None:
    """Write a file that everybody may read, in place of what was there: never half of it.

    Raises:
        InputError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    _write_new(part, content, mode=0o644, directory_mode=0o755)
    part.replace(path)


def _read(path: Path, *, is_secret: bool) -> bytes:
    try:
        with path.open("rb") as file:
            if is_secret:
                require_private(path, os.fstat(file.fileno()).st_mode)
            content = file.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_FILE_BYTES:
        raise InputError(f"{path}: larger than {LARGEST_FILE_BYTES} bytes")
    return content


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None


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


def sync_directory(directory: Path) -> None:
    """Put on disk which files a directory has: a rename is there only when this returns.

    Raises:
        OSError: the disk did not take it.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def spell_key(location: Location) -> str:
    """A key as a person writes it: `datasets.heart.rules[2].max_epsilon`."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".") or "(whole file)"


def _require_finite(value: object, place: Places, location: Location) -> None:
    match value:
        case dict():
            for key, each in value.items():
                _require_finite(each, place, (*location, key))
        case list():
            for index, each in enumerate(value):
                _require_finite(each, place, (*location, index))
        case float() if not math.isfinite(value):
            where = f"{place(location)}: {spell_key(location)}"
            raise InputError(f"{where}: must be finite, not nan or inf")
        case _:
            pass


def _spell_date(value: object) -> str:
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    raise TypeError(f"TOML has no {type(value).__name__}")


def _describe(problems: Sequence[ErrorDetails], model: type[BaseModel], place: Places) -> str:
    texts = [_describe_one(each, model, place) for each in problems[:_SHOWN_PROBLEMS]]
    if len(problems) > _SHOWN_PROBLEMS:
        texts.append(f"{place(())}: and {len(problems) - _SHOWN_PROBLEMS} more")
    return "\n".join(texts)


def _line(location: Location, lines: Mapping[Location, int]) -> str:
    """The line of a key, or of the nearest table around it."""
    while location and location not in lines:
        location = location[:-1]
    return f":{lines[location]}" if location else ""


def _describe_one(problem: ErrorDetails, model: type[BaseModel], place: Places) -> str:
    location, text = _explain(problem, model)
    return f"{place(location)}: {text}"


def _explain(problem: ErrorDetails, model: type[BaseModel]) -> tuple[Location, str]:
    """Where in the file a problem is, and key and expectation."""
    if problem["type"] == "extra_forbidden":
        # The last step is what a person wrote, whatever label it may look like.
        *around, unknown = problem["loc"]
        before, places = _resolve(tuple(around), model)
        location = (*before, unknown)
        near = _suggest(str(unknown), list(_fields(places)))
        return location, f"{spell_key(location)}: unknown key; {near}"
    location, places = _resolve(problem["loc"], model)
    key = spell_key(location)
    match problem["type"]:
        case "missing":
            return location, f"{key}: missing; this key is required"
        case "union_tag_invalid" | "union_tag_not_found":
            # A key, or a function of ours that reads it and is called `_kind` after it.
            tag = problem.get("ctx", {})["discriminator"].strip("'_()")
            values = ", ".join(repr(value) for place in places for value in _tags(place, tag))
            return location, f"{spell_key((*location, tag))}: must be one of {values}"
        case "value_error":
            return location, f"{key}: {problem['msg'].removeprefix('Value error, ')}"
        case _:
            message = problem["msg"].removeprefix("Input ")
            return location, f"{key}: {message[:1].lower()}{message[1:]}"


def _suggest(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _resolve(location: Location, model: type[BaseModel]) -> tuple[Location, Sequence[object]]:
    """The location without pydantic's labels of union members, and the types it leads to."""
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
