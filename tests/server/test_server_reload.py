"""SIGHUP at the server: what is broken is said, and ends nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from full_disk import no_file_longer_than
from logged import Line, logged
from server_host import make_federation
from sqlalchemy.exc import OperationalError

from sordino_protocols.audit_log import read_audit_log
from sordino_server.config import ServerConfig, load_config
from sordino_server.decisions import Decisions, open_decisions
from sordino_server.reload import Reloader


@pytest.fixture
def config(tmp_path: Path) -> Iterator[ServerConfig]:
    federation = make_federation(tmp_path / "federation", ("a",))
    loaded = load_config(tmp_path / "federation" / "server" / "server.toml")
    loaded.server.state.mkdir()
    yield loaded
    federation.close()


@pytest.fixture
def decisions(config: ServerConfig) -> Decisions:
    return open_decisions(config.audit_log_path)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    with logged():
        yield


def said(capsys: pytest.CaptureFixture[str]) -> list[Line]:
    """A reload goes back to stderr, where a daemon logs."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_reload_counts_and_is_on_record(
    config: ServerConfig, decisions: Decisions, capsys: pytest.CaptureFixture[str]
) -> None:
    applied: list[bool] = []
    config.path.write_text(config.path.read_text() + '\n[log]\nlevel = "warning"\n')
    Reloader(config, decisions, lambda: applied.append(True)).reload()
    assert applied == [True]
    assert said(capsys) == []  # not even that it was reloaded: the level is another now
    assert [each.action for each in read_audit_log(config.audit_log_path)] == ["reloaded"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OperationalError("select", {}, ValueError())]
)
def test_a_busy_database_or_a_full_disk_does_not_end_the_server(
    config: ServerConfig, decisions: Decisions, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    Reloader(config, decisions, fail).reload()
    stumbled, reloaded = said(capsys)
    assert (stumbled["event"], reloaded["event"]) == ("reload_stumbled", "reloaded")
    assert stumbled["error"] == type(error).__name__


def test_a_record_that_cannot_be_written_is_said(
    config: ServerConfig, decisions: Decisions
) -> None:
    config.path.write_text("[srever]\n")
    with logged() as heard, no_file_longer_than(0):
        Reloader(config, decisions, lambda: None).reload()
    lines = heard.lines
    assert [line["event"] for line in lines] == [
        "kept_the_old_configuration",
        "reload_not_recorded",
        "reloaded",
    ]
    assert "server.toml" in str(lines[0]["reason"])
    assert "audit.log" in str(lines[1]["reason"])
