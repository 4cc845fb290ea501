"""A vault starts only with code that was tested at its site, on this machine, with its settings."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from one_site import OneSite
from self_tested import provide_record

import sordino_client
import sordino_protocols
from sordino_client.config import TrainingSection
from sordino_client.metrics import SiteMetrics
from sordino_client.self_test_record import (
    SelfTestRecord,
    fingerprint,
    is_tested,
    needs_self_test,
    read_record,
    record_path,
    require_self_test,
    write_record,
)
from sordino_protocols.errors import ExitCode, InputError, ViolationError
from sordino_protocols.metrics import ReleaseClass

WAIT_SECONDS = 120.0


@pytest.fixture
def site(tmp_path: Path) -> OneSite:
    made = OneSite(tmp_path)
    made.prepare()
    return made


def keep_outcome(site: OneSite, *, failed: tuple[str, ...] = ()) -> SelfTestRecord:
    """An outcome of the code that runs here, for tests of what is made of it."""
    record = SelfTestRecord(fingerprint(site.config.training), failed, "2026-01-02T00:00:00Z", 1.5)
    write_record(record_path(site.config), record)
    return record


def test_a_record_is_read_as_it_was_written(site: OneSite) -> None:
    assert read_record(record_path(site.config)) is None
    record = keep_outcome(site, failed=("noise", "empty batch"))
    assert read_record(record_path(site.config)) == record
    assert not record.is_passed
    assert record_path(site.config).stat().st_mode & 0o777 == 0o600


def test_without_a_record_the_command_is_named(site: OneSite) -> None:
    with pytest.raises(InputError, match="never tested") as raised:
        require_self_test(site.config)
    assert f"sordino audit self-test --site {site.directory / 'site.toml'}" in str(raised.value)
    assert needs_self_test(site.config)


def test_code_that_passed_may_run(site: OneSite) -> None:
    keep_outcome(site)
    require_self_test(site.config)
    assert not needs_self_test(site.config)
    assert is_tested(site.config)


def test_code_that_failed_may_not_and_its_faults_are_named(site: OneSite) -> None:
    keep_outcome(site, failed=("sensitivity", "empty batch"))
    with pytest.raises(ViolationError, match="sensitivity, empty batch") as raised:
        require_self_test(site.config)
    assert raised.value.exit_code == ExitCode.AUDIT_VIOLATION
    # The same code would fail again: nothing is tested by itself.
    assert not needs_self_test(site.config)
    assert not is_tested(site.config)


def test_a_test_of_other_code_does_not_count(site: OneSite) -> None:
    record = keep_outcome(site)
    write_record(record_path(site.config), replace(record, fingerprint="0" * 64))
    with pytest.raises(InputError, match="changed since the self-test of 2026-01-02"):
        require_self_test(site.config)
    assert needs_self_test(site.config)
    assert not is_tested(site.config)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"fingerprint": 1', b"\xff"])
def test_a_record_that_cannot_be_read_is_none(site: OneSite, content: bytes) -> None:
    keep_outcome(site)
    record_path(site.config).write_bytes(content)
    assert read_record(record_path(site.config)) is None
    assert needs_self_test(site.config)


def test_what_lies_on_the_disk_is_told_as_a_metric(site: OneSite) -> None:
    metrics = SiteMetrics()
    metrics.watch("sordino_self_test_success", lambda: is_tested(site.config))
    shown = metrics.registries[ReleaseClass.PUBLIC].get_sample_value
    assert shown("sordino_self_test_success") == 0
    keep_outcome(site)
    assert shown("sordino_self_test_success") == 1
    keep_outcome(site, failed=("noise",))
    assert shown("sordino_self_test_success") == 0


def test_settings_and_chosen_instructions_are_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fingerprint(TrainingSection())
    others = [
        fingerprint(TrainingSection(compile=True)),
        fingerprint(TrainingSection(device="cuda")),
    ]
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    others.append(fingerprint(TrainingSection()))
    assert len({plain, *others}) == 4
    monkeypatch.undo()
    assert fingerprint(TrainingSection()) == plain


def start_vault(
    directory: Path, *, path: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A vault that will not start: how it ended."""
    return subprocess.run(
        [sys.executable, "-m", "sordino_client.vault_process", "site.toml"],
        cwd=directory,
        env={**os.environ, **(path or {})},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


@pytest.mark.system
def test_a_vault_without_a_record_does_not_start(site: OneSite) -> None:
    done = start_vault(site.directory)
    assert done.returncode == ExitCode.USAGE
    assert "run: sordino audit self-test --site" in done.stderr
    # Nothing was opened, read or made before.
    assert not site.config.site.state.exists()


@pytest.mark.system
def test_a_vault_whose_code_failed_does_not_start(site: OneSite) -> None:
    keep_outcome(site, failed=("fields of every message",))
    done = start_vault(site.directory)
    assert done.returncode == ExitCode.AUDIT_VIOLATION
    assert "fields of every message" in done.stderr
    assert not site.config.ledger_path.exists()


@pytest.mark.system
def test_one_changed_byte_of_the_source_stops_the_vault(site: OneSite, tmp_path: Path) -> None:
    provide_record(site.config)
    copies = tmp_path / "copies"
    for package in (sordino_client, sordino_protocols):
        assert package.__file__ is not None
        source = Path(package.__file__).parent
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, copies / source.name, ignore=ignored)
    path = {"PYTHONPATH": str(copies)}
    # The very same bytes elsewhere are the same code: what stops this vault is its missing policy
    # directory, which is looked for after the self-test.
    shutil.rmtree(site.directory / "submitters")
    assert "no such directory of trusted keys" in start_vault(site.directory, path=path).stderr
    noise = copies / "sordino_client" / "training" / "noise.py"
    noise.write_bytes(noise.read_bytes() + b"\n")
    done = start_vault(site.directory, path=path)
    assert done.returncode == ExitCode.USAGE
    assert "the code, its libraries, the processor or [training] changed" in done.stderr
