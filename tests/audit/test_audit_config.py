"""`audit.toml`: optional, strict, and below the command line."""

from pathlib import Path

import pytest

from sordino_audit import audit_config
from sordino_audit.audit_config import AuditConfig, load_config
from sordino_protocols.errors import InputError, NotFoundError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "audit.toml"
    path.write_text('[audit]\nreports = "reports"\nruns = "/srv/runs"\nconfidence = 0.99\n')
    return path


def test_paths_start_at_the_file(file: Path) -> None:
    assert load_config(file) == AuditConfig(
        reports=file.parent / "reports", runs=Path("/srv/runs"), heads=None, confidence=0.99
    )


def test_the_command_line_comes_first(file: Path) -> None:
    found = load_config(file, reports=Path("x"), heads=Path("y"), confidence=0.9)
    assert (found.reports, found.heads, found.confidence) == (Path("x"), Path("y"), 0.9)


def test_it_may_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_config, "DEFAULT_CONFIG", tmp_path / "none.toml")
    assert load_config(None) == AuditConfig()
    assert AuditConfig().series is None
    with pytest.raises(NotFoundError):
        load_config(tmp_path / "none.toml")


def test_the_default_place_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_config, "DEFAULT_CONFIG", file)
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
