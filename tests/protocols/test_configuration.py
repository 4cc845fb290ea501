"""Flags > environment > drop-ins > file > defaults; who said what; errors that name the place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from sordino_protocols.configuration import Layered, Origin, read_layers, settings_environment
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.files import STRICT


class Door(BaseModel):
    model_config = STRICT
    address: Annotated[str, Field(pattern=r"^\S+:[0-9]+$")]
    port: int = 1
    share: float = 0.5
    is_open: bool = False
    names: tuple[str, ...] = ()
    key: Path | None = None
    level: Literal["low", "high"] = "low"


class Lamp(BaseModel):
    model_config = STRICT
    colour: str = "white"


class House(BaseModel):
    model_config = STRICT
    door: Door
    lamp: Lamp | None = None


TEXT = """\
[door]
address = "a:1"
port = 2

[lamp]
colour = "red"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(TEXT)
    (tmp_path / "site.d").mkdir()
    return path


def read(file: Path, environ: Mapping[str, str] | None = None, **flags: object) -> Layered[House]:
    said = {("door", name): value for name, value in flags.items()}
    return read_layers(file, House, role="site", environ=environ or {}, flags=said)


def said_by(read_house: Layered[House]) -> dict[str, str]:
    return {each.key: f"{each.origin.layer} {each.origin.place}" for each in read_house.settings()}


def problem(file: Path, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(file, environ)
    return str(caught.value)


def test_each_layer_goes_before_the_ones_below(file: Path) -> None:
    drop_in = file.parent / "site.d" / "50.toml"
    assert read(file).value.door.port == 2
    drop_in.write_text("[door]\nport = 3\n")
    assert read(file).value.door.port == 3
    environ = {"SORDINO_SITE__DOOR__PORT": "4"}
    assert read(file, environ).value.door.port == 4
    assert read(file, environ, port=5).value.door.port == 5
    assert read(file, environ, port=None).value.door.port == 4
    assert read(file, environ).value.door.address == "a:1", "the other keys stay"


def test_everybody_who_said_something_is_named(file: Path) -> None:
    drop_in = file.parent / "site.d" / "50.toml"
    drop_in.write_text("# a note\n[door]\nshare = 0.1\n")
    found = said_by(read(file, {"SORDINO_SITE__DOOR__KEY": "k"}, is_open=True))
    assert found == {
        "door.address": f"file {file}:2",
        "door.port": f"file {file}:3",
        "door.share": f"drop-in {drop_in}:3",
        "door.is_open": "flag --is-open",
        "door.names": "default ",
        "door.key": "environment SORDINO_SITE__DOOR__KEY",
        "door.level": "default ",
        "lamp.colour": f"file {file}:6",
    }


def test_the_later_drop_in_counts_and_other_files_do_not(file: Path) -> None:
    here = file.parent / "site.d"
    (here / "90-late.toml").write_text("[door]\nport = 9\n")
    (here / "10-early.toml").write_text("[door]\nport = 1\nshare = 0.25\n")
    for name in (".hidden.toml", "10.toml.bak", "README"):
        (here / name).write_text("[door]\nport = 77\n")
    house = read(file).value
    assert (house.door.port, house.door.share) == (9, 0.25)


def test_a_drop_in_may_say_a_whole_section(file: Path) -> None:
    file.write_text("")
    (file.parent / "site.d" / "door.toml").write_text('[door]\naddress = "b:2"\n')
    assert read(file).value.door.address == "b:2"


def test_an_array_is_replaced_not_added_to(file: Path) -> None:
    file.write_text(TEXT.replace("port = 2", 'names = ["x", "y"]'))
    (file.parent / "site.d" / "a.toml").write_text('[door]\nnames = ["z"]\n')
    assert read(file).value.door.names == ("z",)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("PORT", "7", 7),
        ("SHARE", "1", 1.0),
        ("IS_OPEN", "true", True),
        ("NAMES", '["a", "b"]', ("a", "b")),
        ("KEY", "keys/a.key", Path("keys/a.key")),
        ("KEY", "7", Path("7")),
        ("ADDRESS", "0.0.0.0:9443", "0.0.0.0:9443"),
        ("LEVEL", "high", "high"),
    ],
)
def test_a_variable_is_read_as_its_key_wants_it(
    file: Path, key: str, text: str, value: object
) -> None:
    door = read(file, {f"SORDINO_SITE__DOOR__{key}": text}).value.door
    assert getattr(door, key.lower()) == value


def test_an_empty_variable_and_those_of_others_say_nothing(file: Path) -> None:
    environ = {
        "SORDINO_SITE__DOOR__PORT": "",
        "SORDINO_SITE": "/etc/sordino/site.toml",
        "SORDINO_SERVER__DOOR__PORT": "8",
    }
    assert read(file, environ).value.door.port == 2


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "DOOR__PROT",
            "1",
            "SORDINO_SITE__DOOR__PROT: door.prot: unknown key; did you mean 'port'?",
        ),
        ("DOOR__PORT", "one", "SORDINO_SITE__DOOR__PORT: door.port: should be a valid integer"),
        ("DOOR__PORT", "1\n[lamp]", "SORDINO_SITE__DOOR__PORT: door.port: should be"),
        ("DOOR__SHARE", "nan", "SORDINO_SITE__DOOR__SHARE: door.share: must be finite"),
        ("DOOR__ADDRESS", "a", "SORDINO_SITE__DOOR__ADDRESS: door.address: string should match"),
        ("DOR", "1", "SORDINO_SITE__DOR: dor: unknown key; did you mean 'door'?"),
        ("DOOR__", "1", "SORDINO_SITE__DOOR__: expected SORDINO_SITE__SECTION__KEY"),
        ("DOOR", "1", "SORDINO_SITE__DOOR: door: "),
    ],
)
def test_a_wrong_variable_is_named(file: Path, name: str, text: str, says: str) -> None:
    assert says in problem(file, {f"SORDINO_SITE__{name}": text})


def test_what_is_wrong_is_named_with_the_layers_file_and_line(file: Path) -> None:
    drop_in = file.parent / "site.d" / "50.toml"
    drop_in.write_text("[door]\n\nprot = 3\n")
    assert problem(file).startswith(f"{drop_in}:3: door.prot: unknown key; did you mean 'port'?")
    drop_in.write_text("[door\n")
    assert problem(file).startswith(f"{drop_in}: not valid TOML")
    drop_in.unlink()
    file.write_text("\n[door]\nport = 2\n")
    assert problem(file).startswith(f"{file}:2: door.address: missing")
    file.write_text("")
    assert problem(file).startswith(f"{file}: door: missing")


# ---------------------------------------------------------------------- --set


def test_what_is_set_goes_before_the_environment_and_is_read_as_its_key_wants_it(
    file: Path,
) -> None:
    said = ["door.port=7", "door.names=['a', 'b=c']", "lamp.colour=blue = green", "door.port = 8"]
    environ = {"SORDINO_SITE__DOOR__PORT": "4"} | settings_environment("site", said)
    house = read(file, environ)
    assert (house.value.door.port, house.value.door.names) == (8, ("a", "b=c"))
    assert house.value.lamp is not None
    assert house.value.lamp.colour == "blue = green"
    assert {each.key for each in house.settings() if each.origin == Origin("flag", "--set")} == {
        "door.port",
        "door.names",
        "lamp.colour",
    }
    assert read(file, environ, port=9).value.door.port == 9
    assert read(file, settings_environment("server", said)).value.door.port == 2


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("door.prt=7", "--set: door.prt: unknown key; did you mean 'port'?"),
        ("dor.port=7", "--set: dor: unknown key; did you mean 'door'?"),
        ("port=7", "--set: port: unknown key"),
        ("door.port=wide", "--set: door.port: should be a valid integer"),
        ("door=7", "--set: door: should be an object"),
    ],
)
def test_a_wrong_setting_is_named(file: Path, setting: str, says: str) -> None:
    assert says in problem(file, settings_environment("site", [setting]))


@pytest.mark.parametrize("setting", ["door.port", "=7", "door..port=hunter2", ".=7", ""])
def test_a_setting_that_is_none_is_refused_at_once_without_its_value(setting: str) -> None:
    with pytest.raises(InputError, match=r"--set .*: expected SECTION\.KEY=VALUE") as caught:
        settings_environment("site", [setting])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["{}", "[1]", "door.port=1", "[" * 100_000])
def test_settings_that_were_changed_on_their_way_are_refused(file: Path, text: str) -> None:
    assert problem(file, {"SORDINO_SITE_SET": text}).startswith("SORDINO_SITE_SET: is handed on")


def test_nothing_set_changes_no_environment() -> None:
    assert settings_environment("site", []) == {}


def test_a_file_that_is_not_there_is_named_and_none_may_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no\.toml"):
        read(tmp_path / "no.toml")
    environ = {"SORDINO_SITE__DOOR__ADDRESS": "c:3"}
    house = read_layers(None, House, role="site", environ=environ)
    assert house.value.door.address == "c:3"
    assert house.settings()[0].origin == Origin("environment", "SORDINO_SITE__DOOR__ADDRESS")


def test_an_absent_section_is_one_line_and_no_error(file: Path) -> None:
    file.write_text('[door]\naddress = "a:1"\n')
    found = {each.key: each.value for each in read(file).settings()}
    assert found["lamp"] is None


numbers = st.none() | st.integers(min_value=-(2**60), max_value=2**60)


@given(file_says=numbers, drop_in_says=numbers, variable_says=numbers, flag_says=numbers)
def test_whatever_is_said_the_topmost_counts(
    tmp_path_factory: pytest.TempPathFactory,
    file_says: int | None,
    drop_in_says: int | None,
    variable_says: int | None,
    flag_says: int | None,
) -> None:
    here = tmp_path_factory.mktemp("layers")
    (here / "site.d").mkdir()
    if drop_in_says is not None:
        (here / "site.d" / "a.toml").write_text(f"door.port = {drop_in_says}\n")
    port = "" if file_says is None else f"port = {file_says}\n"
    (here / "site.toml").write_text(f'[door]\naddress = "a:1"\n{port}')
    variable = "" if variable_says is None else str(variable_says)
    found = read(here / "site.toml", {"SORDINO_SITE__DOOR__PORT": variable}, port=flag_says)
    said = [
        each for each in (flag_says, variable_says, drop_in_says, file_says) if each is not None
    ]
    assert found.value.door.port == (said or [1])[0]
