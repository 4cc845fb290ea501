"""What `sordino audit schedule` puts together: which command, for whom, and where it is written."""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sordino_audit.audit_config import AuditConfig
from sordino_audit.schedule import (
    CRON_DIRECTORY,
    SYSTEM_UNITS,
    PlannedFile,
    Schedule,
    Scheduler,
    parse_every,
    planned_files,
)
from sordino_protocols.errors import InputError, NotFoundError

_PROGRAM = "sordino"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for.

    Attributes:
        scheduler: who shall start the job.
        every: how often.
        runs: the server's directory of runs; None at a site.
        site: the site's configuration; None at the server.
        config: the auditor's configuration, if it was named.
        is_user: for the person's own scheduler, not the system's.
        run_as: who runs the job; None: the owner of what it writes to.
        directory: where the files go; None: where the scheduler looks.
    """

    scheduler: Scheduler
    every: str
    runs: Path | None
    site: Path | None
    config: Path | None
    is_user: bool
    run_as: str | None
    directory: Path | None


def plan(wish: Wish, settings: AuditConfig) -> list[PlannedFile]:
    """The files that fulfil a wish; nothing is written.

    Raises:
        InputError: a wish that cannot be fulfilled; says why.
        NotFoundError: a directory that the job needs is not there.
    """
    if wish.is_user and wish.run_as is not None:
        raise InputError("--run-as is of a system's job; a person's own runs as that person")
    writable = [each.absolute() for each in _writable(wish, settings)]
    for each in writable:
        if not each.is_dir():
            raise NotFoundError(f"{each}: no such directory; make it for whoever runs the audits")
    schedule = Schedule(
        command=_command(wish, settings),
        every=parse_every(wish.every),
        writable=writable,
        user=None if wish.is_user else wish.run_as or writable[0].owner(),
    )
    return planned_files(schedule, wish.scheduler, directory=wish.directory or _place(wish))


def _writable(wish: Wish, settings: AuditConfig) -> Sequence[Path]:
    if wish.site is not None:
        from sordino_client.config import load_config  # noqa: PLC0415  # a site's, not a server's

        return [load_config(wish.site).site.state]
    runs = wish.runs or settings.runs
    if runs is None:
        raise InputError("name the directory of runs, set audit.runs in audit.toml, or use --site")
    reports = [] if settings.reports is None else [settings.reports]
    return [runs, *reports, *([settings.heads.parent] if settings.heads else [])]


def _command(wish: Wish, settings: AuditConfig) -> list[str]:
    """The command that a person would give, with absolute paths."""
    beside = Path(sys.executable).with_name(_PROGRAM)
    program = str(beside) if beside.exists() else shutil.which(_PROGRAM)
    if program is None:
        raise NotFoundError(f"no {_PROGRAM} command on this machine's PATH")
    command = [program, "audit", "run", "--new"]
    if wish.site is not None:
        command += ["--site", str(wish.site.absolute())]
    elif wish.runs is not None:
        command += [str(wish.runs.absolute())]
    if wish.config is not None:
        command += ["--config", str(wish.config.absolute())]
    if settings.reports is not None and wish.site is None:
        command += ["--reports", str(settings.reports.absolute())]
    return command


def _place(wish: Wish) -> Path:
    match wish.scheduler:
        case Scheduler.SYSTEMD if wish.is_user:
            home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
            return home / "systemd" / "user"
        case Scheduler.SYSTEMD:
            return SYSTEM_UNITS
        case Scheduler.CRON if wish.is_user:
            raise InputError(
                "a person's own crontab is edited, not installed: take the line from "
                "--directory DIR --dry-run, and add it with: crontab -e"
            )
        case Scheduler.CRON:
            return CRON_DIRECTORY
