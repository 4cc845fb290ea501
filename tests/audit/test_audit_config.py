"""`audit.toml`: optional, strict, and below the command line."""

import os
from pathlib import Path

import pytest

from sordino_audit.audit_config import AuditConfig, load_config
from sordino_protocols.errors import InputError, NotFoundError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "audit.toml"
    path.write_text('[audit]\nreports = "reports"\nruns = "/srv/runs"\nconfidence = 0.99\n')
    return path


def be_somebody(configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No administrator, with a directory for configurations."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(configuration))


def test_paths_start_at_the_file(file: Path) -> None:
    assert load_config(file) == AuditConfig(
        reports=file.parent / "reports", runs=Path("/srv/runs"), heads=None, confidence=0.99
    )


def test_the_command_line_comes_first(file: Path) -> None:
    found = load_config(file, reports=Path("x"), heads=Path("y"), confidence=0.9)
    assert (found.reports, found.heads, found.confidence) == (Path("x"), Path("y"), 0.9)


def test_the_environment_comes_before_the_file_and_after_the_command_line(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORDINO_AUDIT__AUDIT__CONFIDENCE", "0.8")
    monkeypatch.setenv("SORDINO_AUDIT__AUDIT__HEADS", "heads.json")
    assert load_config(file).confidence == 0.8
    assert load_config(file).heads == file.parent / "heads.json"
    assert load_config(file, confidence=0.9).confidence == 0.9


def test_it_may_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    be_somebody(tmp_path, monkeypatch)
    assert load_config(None) == AuditConfig()
    assert AuditConfig().series is None
    with pytest.raises(NotFoundError):
        load_config(tmp_path / "none.toml")


def test_the_default_place_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    be_somebody(file.parent, monkeypatch)
    (file.parent / "sordino").mkdir()
    file.rename(file.parent / "sordino" / "audit.toml")
    assert load_config(None).confidence == 0.99


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[audit]\nreport = "x"\n', "did you mean 'reports'"),
        ("[audit]\nconfidence = 1.0\n", "confidence"),
        ("[audits]\n", "did you mean 'audit'"),
    ],
)
def test_what_is_wrong_is_named(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError, match=says):
        load_config(file)
