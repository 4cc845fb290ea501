from pathlib import Path

import pytest

from sordino.profile import VARIABLE, load_profile
from sordino_protocols.errors import InputError, NotFoundError

TEXT = """
[profile]
name = "scientist"
gateway = "127.0.0.1:8444"
ca_certificate = "ca.crt"
certificate = "tls/scientist.crt"
private_key = "tls/scientist.key"
signing_key = "/keys/scientist.key"
"""


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def write(path: Path, text: str = TEXT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path / "here" / "profile.toml"))
    assert profile.ca_certificate == tmp_path / "here" / "ca.crt"
    assert profile.certificate == tmp_path / "here" / "tls" / "scientist.crt"
    assert profile.signing_key == Path("/keys/scientist.key")
    assert (profile.name, profile.gateway) == ("scientist", "127.0.0.1:8444")


def test_the_one_asked_for_goes_before_the_variable_and_that_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("default", "variable", "argument")
    texts = {name: TEXT.replace('"scientist"', f'"{name}"', 1) for name in names}
    write(tmp_path / "config" / "sordino" / "profile.toml", texts["default"])
    assert load_profile().name == "default"
    monkeypatch.setenv(VARIABLE, str(write(tmp_path / "variable.toml", texts["variable"])))
    assert load_profile().name == "variable"
    assert load_profile(write(tmp_path / "argument.toml", texts["argument"])).name == "argument"


def test_without_any_profile_says_where_one_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        load_profile()
    assert str(tmp_path / "config" / "sordino" / "profile.toml") in str(raised.value)
    assert VARIABLE in str(raised.value)


def test_a_profile_that_does_not_exist_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFoundError, match=r"nowhere\.toml"):
        load_profile(tmp_path / "nowhere.toml")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "elsewhere.toml"))
    with pytest.raises(NotFoundError, match=r"elsewhere\.toml"):
        load_profile()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("signing_key", "signingkey", "signing_key"),
        ('"127.0.0.1:8444"', '"127.0.0.1"', "gateway"),
        ('"scientist"', '"The Scientist"', "name"),
        ("[profile]", "[profiles]", "profile"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(
    tmp_path: Path, old: str, new: str, named: str
) -> None:
    path = write(tmp_path / "profile.toml", TEXT.replace(old, new, 1))
    with pytest.raises(InputError, match=r"profile\.toml") as raised:
        load_profile(path)
    assert named in str(raised.value)
