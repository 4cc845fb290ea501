"""A periodic job that audits new runs: a systemd timer, or a line for cron.

What is written is plain text that an operator can read, change and remove. The service runs the
very command that a person would, so its outcome is the command's exit code: after a violation the
unit has failed, and `systemctl --failed` and every monitor of units say so. A missed time is made
up for (`Persistent=true`).
"""

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sordino_protocols.errors import ExitCode, InputError
from sordino_protocols.files import write_public

UNIT = "sordino-audit"
SYSTEM_UNITS = Path("/etc/systemd/system")
CRON_DIRECTORY = Path("/etc/cron.d")

_HARDENED = (
    "Nice=10",
    "UMask=0027",
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=yes",
    "RestrictAddressFamilies=AF_UNIX",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    # Numeric libraries ask for memory and processor placement, and live without.
    "SystemCallErrorNumber=EPERM",
)
# Of these a person's own systemd can grant none.
_HARDENED_BY_ROOT = (
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "PrivateNetwork=yes",
    "IPAddressDeny=any",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateUsers=yes",
    "DevicePolicy=closed",
    "RemoveIPC=yes",
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "ProtectProc=invisible",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
)
_FAILURES = (
    f"# {ExitCode.AUDIT_VIOLATION:d}, violation, and {ExitCode.AUDIT_SUSPECT:d}, suspect, make the"
    f" unit fail; {ExitCode.AUDIT_INCONCLUSIVE:d}, inconclusive, does not."
)
_MINUTES_AN_HOUR, _HOURS_A_DAY = 60, 24
_EVERY = re.compile(r"([1-9][0-9]{0,3})(m|h|d|w)")
_NAMED = {"hourly": "1h", "daily": "1d", "weekly": "1w"}
_UNQUOTED = re.compile(r"[A-Za-z0-9_./:=@+,-]+")


class Scheduler(StrEnum):
    """Who starts the job."""

    SYSTEMD = "systemd"
    CRON = "cron"


@dataclass(frozen=True, slots=True)
class Every:
    """How often, as both schedulers write it.

    Attributes:
        calendar: for `OnCalendar=`.
        crontab: the five fields.
    """

    calendar: str
    crontab: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """A periodic job.

    Attributes:
        command: what is started, argument by argument; an absolute path first.
        every: how often.
        writable: directories that the job writes to; for a system's unit all else is read-only.
        user: who runs it; None: the person whose own scheduler it is.
    """

    command: Sequence[str]
    every: Every
    writable: Sequence[Path]
    user: str | None


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file that installing writes."""

    path: Path
    content: str


def parse_every(text: str) -> Every:
    """How often, from `15m`, `6h`, `1d`, `1w`, `hourly`, `daily` or `weekly`.

    Minutes must divide an hour and hours a day: neither scheduler can say anything else, and a
    pause that differs at midnight surprises. Days and weeks run at 03:15, weeks on Monday.

    Raises:
        InputError: names what can be said.
    """
    match = _EVERY.fullmatch(_NAMED.get(text, text))
    if match is None:
        raise InputError(
            f"--every {text}: expected minutes, hours, 1d or 1w, such as 15m, 6h, daily or weekly"
        )
    count, unit = int(match[1]), match[2]
    match unit:
        case "m" if _MINUTES_AN_HOUR % count == 0:
            return Every(f"*:0/{count}", f"*/{count} * * * *")
        case "h" if _HOURS_A_DAY % count == 0:
            return Every(f"0/{count}:00", f"0 */{count} * * *")
        case "d" if count == 1:
            return Every("*-*-* 03:15", "15 3 * * *")
        case "w" if count == 1:
            return Every("Mon *-*-* 03:15", "15 3 * * 1")
        case _:
            raise InputError(
                f"--every {text}: minutes must divide 60 and hours 24; of days and weeks only one"
            )


def planned_files(
    schedule: Schedule, scheduler: Scheduler, *, directory: Path
) -> list[PlannedFile]:
    """What installing would write to `directory`."""
    match scheduler:
        case Scheduler.SYSTEMD:
            return [
                PlannedFile(directory / f"{UNIT}.service", service_text(schedule)),
                PlannedFile(directory / f"{UNIT}.timer", timer_text(schedule)),
            ]
        case Scheduler.CRON:
            return [PlannedFile(directory / UNIT, cron_text(schedule))]


def install(files: Sequence[PlannedFile]) -> None:
    """Write the files; nothing that exists is overwritten.

    Raises:
        InputError: a file exists, or cannot be written.
    """
    for each in files:
        if each.path.exists():
            raise InputError(f"{each.path}: exists already; remove it first to install another")
    for each in files:
        write_public(each.path, each.content.encode())


def next_steps(scheduler: Scheduler, *, is_user: bool) -> str:
    """What a person does after installing."""
    if scheduler is Scheduler.CRON:
        return "cron reads the file by itself within a minute"
    systemctl = "systemctl --user" if is_user else "systemctl"
    return (
        f"start it: {systemctl} daemon-reload && {systemctl} enable --now {UNIT}.timer\n"
        f"look at it: {systemctl} list-timers {UNIT}.timer"
    )


def systemd_problems(files: Sequence[PlannedFile], *, systemd_analyze: str) -> list[str]:
    """What `systemd-analyze verify` has to say of installed units, a line each."""
    done = subprocess.run(
        [systemd_analyze, "verify", *(str(each.path) for each in files)],
        capture_output=True,
        text=True,
        check=False,
    )
    return [line for line in done.stderr.splitlines() if UNIT in line]


def service_text(schedule: Schedule) -> str:
    """The unit that audits once."""
    lines = [
        "[Unit]",
        "Description=Audit new runs of the sordino federation",
        "",
        "[Service]",
        "Type=oneshot",
        f"ExecStart={' '.join(_quoted(each) for each in schedule.command)}",
        _FAILURES,
        f"SuccessExitStatus={ExitCode.AUDIT_INCONCLUSIVE:d}",
        *_HARDENED,
    ]
    if schedule.user is not None:
        lines += [f"User={schedule.user}", *_HARDENED_BY_ROOT]
        lines += [f"ReadWritePaths={_quoted(str(each))}" for each in schedule.writable]
    return "\n".join(lines) + "\n"


def timer_text(schedule: Schedule) -> str:
    """The unit that says when."""
    return f"""\
[Unit]
Description=Audit new runs of the sordino federation, periodically

[Timer]
OnCalendar={schedule.every.calendar}
Persistent=true
RandomizedDelaySec=120

[Install]
WantedBy=timers.target
"""


def cron_text(schedule: Schedule) -> str:
    """A file for /etc/cron.d, or with no user a line for a person's own crontab."""
    # In a crontab, a bare percent sign ends the command.
    command = shlex.join(schedule.command).replace("%", r"\%")
    fields = [schedule.every.crontab, *([schedule.user] if schedule.user else []), command]
    comment = "# Audits new runs of the sordino federation; cron mails what it says."
    return f"{comment}\n{' '.join(fields)}\n"


def _quoted(argument: str) -> str:
    """An argument in a unit file: percent signs and dollars have a meaning there."""
    escaped = argument.replace("%", "%%").replace("$", "$$")
    if _UNQUOTED.fullmatch(escaped):
        return escaped
    inner = escaped.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inner}"'
