"""The systemd units: what they run exists, who runs it is declared, and little is left to it."""

import datetime as dt
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import click
import pytest
import typer

from sordino.cli import app

DIRECTORY = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(DIRECTORY.glob("*.service"))
PROGRAM = "/opt/sordino/bin/"
MOST_EXPOSURE = 2.0


def name(path: Path) -> str:
    return path.stem


def settings(unit: Path, key: str) -> list[str]:
    """All values of a key, in their order."""
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


def systemd_analyze(*arguments: str) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs the system package systemd")
    done = subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TZ": "UTC"},
    )
    return done.stdout + done.stderr


def exposure(unit: Path) -> float:
    said = systemd_analyze("security", "--offline=true", "--no-pager", str(unit))
    (level,) = re.findall(r"exposure level for \S+: ([0-9.]+)", said)
    return float(level)


@pytest.mark.parametrize("unit", SERVICES, ids=name)
def test_leaves_little_to_a_service(unit: Path) -> None:
    assert exposure(unit) <= MOST_EXPOSURE


def test_sees_a_service_that_is_not_hardened(tmp_path: Path) -> None:
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    assert exposure(bare) > MOST_EXPOSURE


def test_finds_nothing_wrong_with_any_unit(tmp_path: Path) -> None:
    assert verified(tmp_path, lambda text: text) == ""


def test_sees_a_unit_with_a_key_that_systemd_does_not_know(tmp_path: Path) -> None:
    said = verified(tmp_path, lambda text: text.replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in said


def test_sees_a_timer_with_a_time_that_systemd_does_not_understand(tmp_path: Path) -> None:
    said = verified(tmp_path, lambda text: text.replace("OnCalendar=hourly", "OnCalendar=hourlie"))
    assert "sordino-audit.timer" in said


def test_audits_once_an_hour() -> None:
    (calendar,) = settings(DIRECTORY / "sordino-audit.timer", "OnCalendar")
    said = systemd_analyze("calendar", "--iterations=3", calendar)
    times = [
        dt.datetime.fromisoformat(each)
        for each in re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", said)
    ]
    assert len(times) == 3
    assert {after - before for before, after in pairwise(times)} == {dt.timedelta(hours=1)}


def drop_ins() -> Iterator[tuple[str, str]]:
    """What the guide has people add: the unit, and the text."""
    guide = (DIRECTORY.parents[1] / "docs" / "deploy.md").read_text()
    yield from re.findall(r"`systemctl edit (\S+)`\s+```ini\n(.*?)```", guide, re.DOTALL)
    (graphics,) = re.findall(r"^A vault with a graphics processor: (.*)$", guide, re.MULTILINE)
    keys = "\n".join(re.findall(r"`(.*?)`", graphics))
    yield "sordino-site-vault.service", f"[Service]\n{keys}\n"


def test_leaves_little_to_a_service_with_every_drop_in_of_the_guide(tmp_path: Path) -> None:
    assert len(list(drop_ins())) == 3
    for number, (unit, text) in enumerate(drop_ins()):
        place = tmp_path / str(number)
        (place / f"{unit}.d").mkdir(parents=True)
        (place / f"{unit}.d" / "override.conf").write_text(text)
        assert verified(place, lambda text: text) == ""
        assert exposure(place / unit) <= MOST_EXPOSURE
        assert exposure(place / unit) != exposure(DIRECTORY / unit), "systemd did not read it"


def verified(directory: Path, change: Callable[[str], str]) -> str:
    """What systemd has to say of the units, with programs that exist in place of ours."""
    for unit in [*SERVICES, *DIRECTORY.glob("*.timer")]:
        text = unit.read_text().replace(PROGRAM, "/bin/true ")
        (directory / unit.name).write_text(change(text))
    units = sorted(each for each in directory.iterdir() if each.is_file())
    said = systemd_analyze("verify", *map(str, units))
    return "\n".join(line for line in said.splitlines() if "sordino" in line)


@pytest.mark.parametrize("unit", SERVICES, ids=name)
def test_starts_what_the_program_has(unit: Path) -> None:
    for command in [*settings(unit, "ExecStartPre"), *settings(unit, "ExecStart")]:
        program, *arguments = command.removeprefix(PROGRAM).split()
        match program:
            case "sordino":
                assert_known(arguments)
            case "python":
                assert arguments[0] == "-m"
                assert find_spec(arguments[1]) is not None
            case _:
                pytest.fail(command)


def assert_known(arguments: list[str]) -> None:
    """The words name a command of `sordino`, and the flags are that command's."""
    command: click.Command = typer.main.get_command(app)
    words = list(arguments)
    while isinstance(command, click.Group):
        found = command.commands.get(words.pop(0))
        assert found is not None, arguments
        command = found
    flags = {flag for each in command.params for flag in each.opts}
    assert {word for word in words if word.startswith("--")} <= flags


def test_names_only_users_and_groups_that_are_declared() -> None:
    declared = (DIRECTORY / "sordino.sysusers.conf").read_text()
    groups = set(re.findall(r"^[ug] (\S+)", declared, re.MULTILINE))
    users = set(re.findall(r"^u (\S+)", declared, re.MULTILINE))
    for unit in SERVICES:
        assert set(settings(unit, "User")) <= users, unit
        others = " ".join(settings(unit, "SupplementaryGroups")).split()
        assert {*settings(unit, "Group"), *others} <= groups, unit
    for path in DIRECTORY.glob("*.tmpfiles.conf"):
        owned = re.findall(r"^[dzZ] \S+ +\S+ +(\S+) +(\S+)", path.read_text(), re.MULTILINE)
        assert owned
        assert {user for user, _ in owned} <= users | {"root"}
        assert {group for _, group in owned} <= groups | {"root"}


def test_gives_every_service_a_user_and_the_vault_one_of_its_own() -> None:
    users = {unit.stem: settings(unit, "User") for unit in SERVICES}
    assert users == {
        "sordino-audit": ["sordino-server"],
        "sordino-server": ["sordino-server"],
        "sordino-site-link": ["sordino-link"],
        "sordino-site-vault": ["sordino-vault"],
    }


def test_gives_the_vault_no_network() -> None:
    vault = DIRECTORY / "sordino-site-vault.service"
    assert settings(vault, "PrivateNetwork") == ["yes"]
    assert settings(vault, "RestrictAddressFamilies") == ["AF_UNIX"]
    assert settings(vault, "IPAddressDeny") == ["any"]


@pytest.mark.parametrize("unit", SERVICES, ids=name)
def test_refuses_a_system_call_instead_of_killing_the_process(unit: Path) -> None:
    assert settings(unit, "SystemCallErrorNumber") == ["EPERM"]


@pytest.mark.parametrize("unit", SERVICES, ids=name)
def test_never_writes_the_memory_of_a_process_to_a_disk(unit: Path) -> None:
    assert settings(unit, "LimitCORE") == ["0"]


def test_makes_up_for_an_audit_that_was_missed() -> None:
    assert settings(DIRECTORY / "sordino-audit.timer", "Persistent") == ["true"]
