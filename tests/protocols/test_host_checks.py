"""What a daemon can find out about its host: each check fails when what it checks is broken."""

import datetime as dt
import os
from pathlib import Path

import pytest

from sordino_deploy.pki import create_authority, issue_server
from sordino_protocols.certificates import not_after
from sordino_protocols.host_checks import Clock, certificate_lasts, writable


def test_a_state_that_cannot_be_written_is_found_and_nothing_is_left(tmp_path: Path) -> None:
    assert writable(tmp_path).is_ok
    assert not list(tmp_path.iterdir())
    missing = writable(tmp_path / "gone")
    assert not missing.is_ok
    assert "No such file" in missing.detail


def test_a_certificate_is_a_failure_a_day_before_it_expires(tmp_path: Path) -> None:
    authority = create_authority(tmp_path / "ca", name="tests")
    path = issue_server(authority, tmp_path)
    expires = not_after(path)
    assert certificate_lasts(path, now=expires - dt.timedelta(hours=25)).is_ok
    late = certificate_lasts(path, now=expires - dt.timedelta(hours=23))
    assert not late.is_ok
    assert f"{expires:%Y-%m-%d}" in late.detail


@pytest.mark.parametrize("jump", [-90.0, 90.0])
def test_a_clock_that_jumps_is_found(tmp_path: Path, jump: float) -> None:
    wall, steady = [1000.0], [50.0]
    clock = Clock(tmp_path, wall=lambda: wall[0], steady=lambda: steady[0])
    wall[0], steady[0] = 4600.0, 3650.0
    assert clock.check().is_ok
    wall[0] += jump
    found = clock.check()
    assert not found.is_ok
    assert f"{jump:+.0f} s" in found.detail


def test_a_clock_that_is_behind_what_was_written_is_found(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "train-1"
    run.mkdir(parents=True)
    clock = Clock(tmp_path)
    assert clock.check().is_ok
    ahead = clock._wall() + 600
    os.utime(run, (ahead, ahead))
    found = clock.check()
    assert not found.is_ok
    assert "behind" in found.detail
