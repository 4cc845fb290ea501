"""The self-test at a site: what passed may run, what failed may not, and one test does for many."""

from dataclasses import replace
from pathlib import Path

import pytest
from one_site import OneSite
from seeded_noise import NoNoise
from self_tested import provide_record

from sordino_audit.findings import Verdict
from sordino_audit.probes.trainer import Asked, engine
from sordino_audit.self_test_process import ensure_tested, main
from sordino_audit.site_self_test import self_test_site
from sordino_client.self_test_record import (
    is_tested,
    read_record,
    record_path,
    require_self_test,
    write_record,
)
from sordino_client.training.steps import RoundResult
from sordino_protocols.errors import ExitCode, ViolationError


def prepared(directory: Path, *, compile_passes: bool = False) -> OneSite:
    directory.mkdir()
    site = OneSite(directory)
    site.prepare()
    if compile_passes:
        with (directory / "site.toml").open("a") as file:
            file.write("[training]\ncompile = true\n")
    return site


def without_noise(asked: Asked) -> RoundResult:
    """A trainer that forgets the noise."""
    return engine(replace(asked, noise=NoNoise()))


def test_the_code_passes_and_a_vault_may_start(tmp_path: Path) -> None:
    site = prepared(tmp_path / "a")
    assert self_test_site(site.config).verdict is Verdict.LOOSE
    require_self_test(site.config)
    record = read_record(record_path(site.config))
    assert record is not None
    assert record.is_passed
    assert record.seconds > 0


def test_code_that_forgets_the_noise_fails_and_no_vault_starts(tmp_path: Path) -> None:
    site = prepared(tmp_path / "a")
    found = self_test_site(site.config, trainer=without_noise)
    assert found.verdict is Verdict.VIOLATION
    record = read_record(record_path(site.config))
    assert record is not None
    assert record.failed == tuple(each.name for each in found.outcomes if not each.is_passed)
    with pytest.raises(ViolationError, match=record.failed[0]):
        require_self_test(site.config)


def test_one_test_does_for_all_sites_that_compute_alike(tmp_path: Path) -> None:
    sites = [prepared(tmp_path / name) for name in ("a", "b")]
    provide_record(sites[0].config)
    # A third has an outcome already: it is left as it is.
    old = prepared(tmp_path / "c")
    provide_record(old.config)
    before = record_path(old.config).stat().st_mtime_ns
    record_path(sites[0].config).unlink()
    assert ensure_tested([each.config for each in (*sites, old)])
    first, second = (read_record(record_path(each.config)) for each in sites)
    assert first is not None
    assert first == second
    assert record_path(old.config).stat().st_mtime_ns == before


def test_other_settings_need_a_test_of_their_own(tmp_path: Path) -> None:
    plain, compiling = prepared(tmp_path / "a"), prepared(tmp_path / "b", compile_passes=True)
    provide_record(plain.config)
    record = read_record(record_path(plain.config))
    assert record is not None
    write_record(record_path(compiling.config), record)
    assert is_tested(plain.config)
    assert not is_tested(compiling.config)


def test_a_failed_outcome_ends_the_process_with_a_violation(tmp_path: Path) -> None:
    site = prepared(tmp_path / "a")
    provide_record(site.config)
    arguments = [str(site.directory / "site.toml")]
    assert main(arguments) == ExitCode.OK
    record = read_record(record_path(site.config))
    assert record is not None
    write_record(record_path(site.config), replace(record, failed=("noise",)))
    assert main(arguments) == ExitCode.AUDIT_VIOLATION


def test_wrong_arguments_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == ExitCode.USAGE
    assert "site.toml" in capsys.readouterr().err
    assert main([str(tmp_path / "none.toml")]) == ExitCode.NOT_FOUND
    assert "none.toml" in capsys.readouterr().err
