"""The periodic job: what is written, that systemd takes it, and that it says the right times."""

import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sordino_audit.audit_config import AuditConfig
from sordino_audit.schedule import (
    PlannedFile,
    Scheduler,
    install,
    next_steps,
    parse_every,
    systemd_problems,
)
from sordino_audit.scheduling import Wish, plan
from sordino_protocols.errors import InputError, NotFoundError

SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="systemd-analyze is missing")
LARGEST_EXPOSURE = 2.0


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    directory = tmp_path / "all runs, 100%"
    directory.mkdir()
    return directory


@pytest.fixture
def units(tmp_path: Path) -> Path:
    return tmp_path / "units"


def wish(runs: Path, units: Path) -> Wish:
    return Wish(
        scheduler=Scheduler.SYSTEMD,
        every="6h",
        runs=runs,
        site=None,
        config=None,
        is_user=False,
        run_as=None,
        directory=units,
    )


def contents(files: list[PlannedFile]) -> str:
    return "".join(each.content for each in files)


@pytest.mark.parametrize(
    ("text", "calendar", "crontab"),
    [
        ("15m", "*:0/15", "*/15 * * * *"),
        ("6h", "0/6:00", "0 */6 * * *"),
        ("hourly", "0/1:00", "0 */1 * * *"),
        ("daily", "*-*-* 03:15", "15 3 * * *"),
        ("1w", "Mon *-*-* 03:15", "15 3 * * 1"),
    ],
)
def test_says_how_often_to_both_schedulers(text: str, calendar: str, crontab: str) -> None:
    every = parse_every(text)
    assert (every.calendar, every.crontab) == (calendar, crontab)


@pytest.mark.parametrize("text", ["7m", "5h", "2d", "3w", "90m", "0h", "", "soon", "1h; rm"])
def test_a_time_that_a_scheduler_cannot_say_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--every"):
        parse_every(text)


@needs_systemd
@pytest.mark.parametrize("text", ["15m", "6h", "hourly", "daily", "weekly"])
def test_systemd_understands_the_times(text: str) -> None:
    assert SYSTEMD_ANALYZE is not None
    command = [SYSTEMD_ANALYZE, "calendar", parse_every(text).calendar]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_installs_a_service_and_a_persistent_timer(runs: Path, units: Path) -> None:
    files = plan(wish(runs, units), AuditConfig())
    install(files)
    service = (units / "sordino-audit.service").read_text()
    timer = (units / "sordino-audit.timer").read_text()
    assert "SuccessExitStatus=11" in service
    assert f"User={runs.owner()}" in service
    # A percent sign would be a specifier of systemd's.
    assert f'ReadWritePaths="{str(runs).replace("%", "%%")}"' in service
    assert "OnCalendar=0/6:00\nPersistent=true\n" in timer
    assert "WantedBy=timers.target" in timer


@needs_systemd
@pytest.mark.parametrize("is_user", [False, True])
def test_systemd_takes_the_units(runs: Path, units: Path, is_user: bool) -> None:  # noqa: FBT001
    assert SYSTEMD_ANALYZE is not None
    files = plan(replace(wish(runs, units), is_user=is_user), AuditConfig())
    install(files)
    assert systemd_problems(files, systemd_analyze=SYSTEMD_ANALYZE) == []


@needs_systemd
def test_systemd_finds_a_unit_that_is_wrong(runs: Path, units: Path) -> None:
    assert SYSTEMD_ANALYZE is not None
    service, timer = plan(wish(runs, units), AuditConfig())
    broken = replace(service, content=service.content.replace("Type=oneshot", "Type=sometimes"))
    install([broken, timer])
    assert systemd_problems([broken, timer], systemd_analyze=SYSTEMD_ANALYZE) != []


@needs_systemd
def test_the_service_is_hardened(runs: Path, units: Path) -> None:
    assert SYSTEMD_ANALYZE is not None
    files = plan(wish(runs, units), AuditConfig())
    install(files)
    command = [SYSTEMD_ANALYZE, "security", "--offline=true", str(files[0].path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert exposure is not None, done.stderr
    assert float(exposure[1]) <= LARGEST_EXPOSURE


def test_a_persons_own_unit_asks_for_nothing_that_only_root_can_give(
    runs: Path, units: Path
) -> None:
    text = contents(plan(replace(wish(runs, units), is_user=True), AuditConfig()))
    for of_root in ("User=", "CapabilityBoundingSet", "PrivateNetwork", "ProtectSystem"):
        assert of_root not in text
    assert "NoNewPrivileges=yes" in text


def test_a_persons_own_units_go_where_systemd_looks(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    asked = replace(wish(runs, tmp_path), is_user=True, directory=None)
    places = {each.path.parent for each in plan(asked, AuditConfig())}
    assert places == {tmp_path / "config" / "systemd" / "user"}


def test_a_cron_line_runs_the_command_as_its_user(runs: Path, units: Path) -> None:
    asked = replace(wish(runs, units), scheduler=Scheduler.CRON, run_as="sordino")
    (file,) = plan(asked, AuditConfig())
    *fields, user, command = file.content.splitlines()[1].split(" ", 6)
    assert fields == ["0", "*/6", "*", "*", "*"]
    assert user == "sordino"
    # In a crontab, a bare percent sign ends the command.
    assert "%" not in command.replace(r"\%", "")
    assert shlex.split(command.replace(r"\%", "%"))[1:] == ["audit", "run", "--new", str(runs)]


def test_the_command_names_what_was_named(runs: Path, units: Path, tmp_path: Path) -> None:
    reports, config = tmp_path / "reports", tmp_path / "audit.toml"
    reports.mkdir()
    asked = replace(wish(runs, units), config=config)
    text = contents(plan(asked, AuditConfig(reports=reports)))
    assert f"--config {config} --reports {reports}" in text
    assert f"ReadWritePaths={reports}" in text


def test_nothing_is_overwritten(runs: Path, units: Path) -> None:
    files = plan(wish(runs, units), AuditConfig())
    install(files[1:])
    with pytest.raises(InputError, match="exists already"):
        install(files)
    assert not files[0].path.exists()


def test_what_the_job_needs_must_be_there(runs: Path, units: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such directory"):
        plan(wish(tmp_path / "nothing", units), AuditConfig())
    with pytest.raises(NotFoundError, match="no such directory"):
        plan(wish(runs, units), AuditConfig(reports=tmp_path / "nothing"))
    with pytest.raises(InputError, match="--site"):
        plan(replace(wish(runs, units), runs=None), AuditConfig())


def test_runs_may_be_named_in_the_configuration(runs: Path, units: Path) -> None:
    text = contents(plan(replace(wish(runs, units), runs=None), AuditConfig(runs=runs)))
    assert "audit run --new\n" in text


def test_a_persons_own_crontab_is_not_written(runs: Path) -> None:
    asked = replace(wish(runs, runs), scheduler=Scheduler.CRON, is_user=True, directory=None)
    with pytest.raises(InputError, match="crontab -e"):
        plan(asked, AuditConfig())


def test_says_how_to_start_it() -> None:
    assert "systemctl --user enable" in next_steps(Scheduler.SYSTEMD, is_user=True).replace(
        "systemctl --user daemon-reload && ", ""
    )
    assert "by itself" in next_steps(Scheduler.CRON, is_user=False)
