import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.files import (
    LARGEST_FILE_BYTES,
    STRICT,
    parse_toml,
    read_secret,
    read_secret_text,
    read_toml,
    write_public,
    write_secret,
)

SECRET = "correct-horse-battery"


class Mode(Enum):
    FAST = "fast"
    SLOW = "slow"


class Circle(BaseModel):
    model_config = STRICT
    kind: Literal["circle"]
    radius: float


class Square(BaseModel):
    model_config = STRICT
    kind: Literal["square"]
    edge: float


Shape = Annotated[Circle | Square, Field(discriminator="kind")]


class Limits(BaseModel):
    model_config = STRICT
    epsilon: float
    rounds: int = 1


class Settings(BaseModel):
    model_config = STRICT
    limits: Limits
    paths: tuple[Path, ...] = ()
    mode: Mode = Mode.FAST
    shapes: dict[str, Shape] = {}
    more: tuple[Shape, ...] = ()
    maybe: Limits | None = None

    @model_validator(mode="after")
    def check(self) -> "Settings":
        if self.limits.rounds > 9:
            raise ValueError("limits.rounds must be at most 9")
        return self


def problem(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_toml(text, Settings, source="site.toml")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_reads_what_toml_can_spell() -> None:
    settings = parse_toml(
        'paths = ["a", "b"]\nmode = "slow"\n[limits]\nepsilon = 4\n'
        '[shapes.x]\nkind = "circle"\nradius = 1',
        Settings,
        source="site.toml",
    )
    assert settings.paths == (Path("a"), Path("b"))
    assert settings.mode is Mode.SLOW
    assert settings.limits.epsilon == 4.0
    assert settings.shapes == {"x": Circle(kind="circle", radius=1.0)}


def test_names_file_key_and_the_nearest_known_key() -> None:
    message = problem(f'[limits]\nepsilom = "{SECRET}"\nepsilon = 1')
    assert message == "site.toml: limits.epsilom: unknown key; did you mean 'epsilon'?"


def test_lists_known_keys_when_none_is_near() -> None:
    assert "limits.zzz: unknown key; known: epsilon, rounds" in problem(
        "[limits]\nepsilon = 1\nzzz = 2"
    )


def test_suggests_inside_an_optional_table() -> None:
    message = problem("[limits]\nepsilon = 1\n[maybe]\nepsilon = 1\nround = 1")
    assert message == "site.toml: maybe.round: unknown key; did you mean 'rounds'?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "limits: missing"),
        ("[limits]", "limits.epsilon: missing"),
        (f'[limits]\nepsilon = "{SECRET}"', "limits.epsilon: should be a valid number"),
        ('[limits]\nepsilon = "1.0"', "limits.epsilon: should be a valid number"),
        ("[limits]\nepsilon = true", "limits.epsilon: should be a valid number"),
        ("[limits]\nepsilon = 1\nrounds = 2.0", "limits.rounds: should be a valid integer"),
        ("[limits]\nepsilon = nan", "limits.epsilon: must be finite"),
        ("more = [inf]\n[limits]\nepsilon = 1", "more[0]: must be finite"),
        ("[limits]\nepsilon = 1\nrounds = 10", "limits.rounds must be at most 9"),
        (f'mode = "{SECRET}"\n[limits]\nepsilon = 1', "mode: should be 'fast' or 'slow'"),
        ("limits = 2024-01-01", "limits: "),
        ("[limits", "not valid TOML"),
        ("a = 1\na = 2", "not valid TOML"),
    ],
)
def test_says_what_was_expected(text: str, expected: str) -> None:
    assert expected in problem(text)


def test_unions_show_the_persons_path_without_internal_labels() -> None:
    head = "[limits]\nepsilon = 1\n[shapes.x]\n"
    assert (
        problem(head + 'kind = "circle"\nradios = 1\nradius = 1')
        == "site.toml: shapes.x.radios: unknown key; did you mean 'radius'?"
    )
    assert "shapes.x.radius: missing" in problem(head + 'kind = "circle"')
    assert "shapes.x.kind: must be one of 'circle', 'square'" in problem(
        head + f'kind = "{SECRET}"'
    )
    assert "shapes.x.kind: must be one of 'circle', 'square'" in problem(head)
    assert "more[1].edge: missing" in problem(
        '[limits]\nepsilon = 1\n[[more]]\nkind = "square"\nedge = 1\n[[more]]\nkind = "square"'
    )


class Stack(BaseModel):
    model_config = STRICT
    kind: Literal["layers"]
    layers: tuple[Shape, ...]
    outputs: int = 1


class Chart(BaseModel):
    model_config = STRICT
    model: Annotated[Stack | Circle, Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("", "model.layers: missing"),
        ("layers = 5", "model.layers: should be a valid array"),
        ("layers = []\noutput = 2", "model.output: unknown key; did you mean 'outputs'?"),
        ('layers = [{kind = "circle"}]', "model.layers[0].radius: missing"),
        ('layers = [{kind = "circle", radius = "r"}]', "model.layers[0].radius: should be a valid"),
        ("layers = [{radius = 1}]", "model.layers[0].kind: must be one of 'circle', 'square'"),
    ],
)
def test_a_kind_that_is_spelled_like_a_key_is_not_taken_for_it(model: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_toml(f'[model]\nkind = "layers"\n{model}', Chart, source="job.toml")
    assert f"job.toml: {expected}" in str(caught.value)


def _kind(value: object) -> str | None:
    return value.get("kind", "circle") if isinstance(value, dict) else None


class Defaulting(BaseModel):
    model_config = STRICT
    shape: Annotated[
        Annotated[Circle, Tag("circle")] | Annotated[Square, Tag("square")], Discriminator(_kind)
    ]


@pytest.mark.parametrize("kind", ['"star"', "5"])
def test_a_kind_that_a_function_reads_is_named_by_its_key(kind: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_toml(f"[shape]\nkind = {kind}", Defaulting, source="job.toml")
    assert str(caught.value) == "job.toml: shape.kind: must be one of 'circle', 'square'"


def test_shows_every_problem_up_to_a_bound() -> None:
    text = "[limits]\nepsilon = 1\n" + "".join(f"unknown{n} = 1\n" for n in range(20))
    lines = problem(text).splitlines()
    assert len(lines) == 9
    assert lines[-1] == "site.toml: and 12 more"


def test_strict_even_when_a_model_forgot_to_be() -> None:
    class Loose(BaseModel):
        number: int

    with pytest.raises(InputError, match="number: should be a valid integer"):
        parse_toml('number = "5"', Loose, source="x")


def test_a_missing_unreadable_or_huge_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.toml"):
        read_toml(tmp_path / "gone.toml", Settings)
    with pytest.raises(InputError, match="cannot be read"):
        read_toml(tmp_path, Settings)
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe9'")
    with pytest.raises(InputError, match="not UTF-8"):
        read_toml(tmp_path / "latin.toml", Settings)
    (tmp_path / "huge.toml").write_bytes(b"#" * (LARGEST_FILE_BYTES + 1))
    with pytest.raises(InputError, match="larger than"):
        read_toml(tmp_path / "huge.toml", Settings)


def test_secrets_are_the_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_secret(tmp_path / "keys" / "a.key", b"x")
        write_public(tmp_path / "a.pub", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "keys" / "a.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a.pub").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o601, 0o666, 0o4644])
def test_a_secret_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(b"hunter2")
    path.chmod(mode)
    expected = f"{path}: holds a secret that others may read (mode {mode:04o}); fix: chmod 600"
    for read in (read_secret, read_secret_text):
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value) == f"{expected} {path}"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_secret_of_its_owner_is_read_as_it_is(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(b"hunter2\n")
    path.chmod(mode)
    assert read_secret(path) == b"hunter2\n"
    assert read_secret_text(path) == "hunter2\n"


def test_a_secret_is_looked_at_through_a_link(tmp_path: Path) -> None:
    # As where a volume of secrets is mounted: what counts is the file that is read.
    (tmp_path / "real.key").write_bytes(b"x")
    (tmp_path / "real.key").chmod(0o644)
    (tmp_path / "a.key").symlink_to(tmp_path / "real.key")
    with pytest.raises(InputError, match="mode 0644"):
        read_secret(tmp_path / "a.key")
    (tmp_path / "real.key").chmod(0o600)
    assert read_secret(tmp_path / "a.key") == b"x"


def test_a_secret_that_cannot_be_read_is_named_and_never_shown(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.key"):
        read_secret(tmp_path / "gone.key")
    with pytest.raises(InputError, match="cannot be read"):
        read_secret(tmp_path)
    path = tmp_path / "a.key"
    for content in (b"hunter2 \xe9", b"hunter2" * LARGEST_FILE_BYTES):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(InputError, match=r"not UTF-8|larger than") as caught:
            read_secret_text(path)
        assert "hunter2" not in str(caught.value)


def test_never_overwrites_nor_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("there", "link"):
        for write in (write_secret, write_public):
            with pytest.raises(InputError, match="exists already"):
                write(tmp_path / name, b"new")
    assert (tmp_path / "there").read_bytes() == b"old"
    assert not (tmp_path / "elsewhere").exists()
