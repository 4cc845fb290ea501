"""Where things lie by default: the system's directories, or a user's own."""

import os
from pathlib import Path

import pytest

from sordino_protocols.standard_paths import SYSTEM, StandardPaths, default_config, standard_paths


def beside(root: Path) -> StandardPaths:
    return StandardPaths(root / "etc", root / "lib", root / "log", root / "run")


def test_the_administrator_has_the_systems_directories() -> None:
    found = standard_paths({"HOME": "/root", "XDG_CONFIG_HOME": "/x"}, is_root=True)
    assert found == SYSTEM
    assert found.config_file("site") == Path("/etc/sordino/site.toml")


def test_anybody_else_has_what_xdg_names() -> None:
    variables = {
        "HOME": "/home/ada",
        "XDG_CONFIG_HOME": "/c",
        "XDG_STATE_HOME": "/s",
        "XDG_RUNTIME_DIR": "/run/user/7",
    }
    assert standard_paths(variables, is_root=False) == StandardPaths(
        Path("/c/sordino"),
        Path("/s/sordino"),
        Path("/s/sordino/log"),
        Path("/run/user/7/sordino"),
    )


def test_what_is_not_named_or_relative_lies_in_the_home() -> None:
    found = standard_paths({"HOME": "/home/ada", "XDG_CONFIG_HOME": "relative"}, is_root=False)
    assert found == StandardPaths(
        Path("/home/ada/.config/sordino"),
        Path("/home/ada/.local/state/sordino"),
        Path("/home/ada/.local/state/sordino/log"),
        Path("/home/ada/.local/state/sordino/run"),
    )


def test_who_runs_this_is_asked_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert standard_paths({"HOME": "/home/ada"}) == SYSTEM
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert standard_paths({"HOME": "/home/ada"}) != SYSTEM


def test_ones_own_configuration_goes_before_the_systems(tmp_path: Path) -> None:
    variables = {"HOME": str(tmp_path / "home")}
    own = tmp_path / "home" / ".config" / "sordino" / "site.toml"
    system = beside(tmp_path)

    def found() -> Path:
        return default_config("site", variables, is_root=False, system=system)

    assert found() == own, "neither is there: a new one would be one's own"
    system.configuration.mkdir()
    system.config_file("site").touch()
    assert found() == system.config_file("site")
    own.parent.mkdir(parents=True)
    own.touch()
    assert found() == own


def test_the_administrator_has_a_profile_of_their_own() -> None:
    found = default_config("profile", {"HOME": "/root"}, is_root=True)
    assert found == Path("/root/.config/sordino/profile.toml")
