"""What docs/audit.md shows can be typed: commands that exist, options that they take."""

import re
import shlex
from pathlib import Path

import click
import pytest
from command_lines import parsed, shown_lines
from typer.testing import CliRunner

from sordino.cli import app
from sordino_audit.audit_config import AuditFile
from sordino_audit.audit_document import schema_json
from sordino_audit.findings import Verdict
from sordino_audit.replay.plan import ReplayDesign
from sordino_client.metrics import SiteMetrics
from sordino_protocols.files import parse_toml
from sordino_protocols.metrics import METRICS

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "audit.md").read_text()
COMMANDS = shown_lines(TEXT)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 10
    used = {parsed(line).info_name for line in COMMANDS}
    assert used >= {"self-test", "run", "replay", "show", "verify", "schedule", "release", "infer"}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_that_is_shown_can_be_typed(line: str) -> None:
    parsed(line)


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        parsed("sordino audit rum RUN")
    with pytest.raises(click.UsageError):
        parsed("sordino audit run --no-such-option RUN")


@pytest.mark.parametrize("line", [each for each in COMMANDS if "--dry-run" in each])
def test_a_schedule_is_printed_and_installed_nowhere(line: str, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    arguments = [*shlex.split(line)[1:], "--directory", str(tmp_path / "units"), str(runs)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "sordino" in done.output
    assert "--new" in done.output
    assert not (tmp_path / "units").exists()


def test_the_schema_that_is_linked_is_the_one_that_is_printed() -> None:
    done = CliRunner().invoke(app, ["audit", "schema"])
    assert done.output == schema_json()
    assert (DOCS / "audit-report.schema.json").read_text() == schema_json()


def test_the_configuration_that_is_shown_is_one() -> None:
    design, audit = re.findall(r"^```toml\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert parse_toml(audit, AuditFile, source="docs/audit.md").audit.reports is not None
    assert parse_toml(design, ReplayDesign, source="docs/audit.md").poisons > 0


def test_every_verdict_is_there_with_its_exit_code() -> None:
    table = dict(re.findall(r"^\| (\w+) \| (\d+) \|", TEXT, flags=re.MULTILINE))
    assert table == {each.value: str(int(each.exit_code)) for each in Verdict}


def test_every_metric_of_audits_is_there() -> None:
    told = set(re.findall(r"`(sordino_\w+)`", TEXT))
    others = {"sordino_models_quarantined", "sordino_self_test_success"}
    assert told == {name for name in METRICS if name.startswith("sordino_audit_")} | others
    metrics = SiteMetrics()
    metrics.watch("sordino_self_test_success", lambda: True)
    public = "".join(metrics.text((each,)) for each in metrics.registries)
    assert "sordino_self_test_success 1.0" in public
