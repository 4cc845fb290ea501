"""`sordino policy check|explain|diff` and the audit log's command, as a person calls them."""

import datetime as dt
import json
from pathlib import Path

import pytest
import typer
from one_site import JOB, POLICY, SCHEMA, OneSite

from sordino_client.policy_cli import audit_log, policy_app
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.terminal import run_command

RULES = """\
[[datasets.heart.rules]]
action = "deny"
submitters = ["intern"]
[[datasets.heart.rules]]
action = "allow"
max_epsilon = 2.5
[[datasets.heart.rules]]
action = "ask"
approvals = 2
approvers = ["alice", "bob"]
"""
WITH_RULES = POLICY.replace('["scientist"]', '["scientist", "intern"]') + RULES


def run(*arguments: str | Path) -> int:
    app = typer.Typer()
    app.add_typer(policy_app, name="policy")
    app.command("audit-log")(audit_log)
    return run_command(lambda: app([str(each) for each in arguments], standalone_mode=False))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "heart.toml").write_text(SCHEMA)
    (tmp_path / "job.toml").write_text(JOB)
    return tmp_path


def explain(files: Path, *more: str) -> int:
    policy, dataset = files / "policy.toml", files / "heart.toml"
    return run(
        "policy", "explain", files / "job.toml", "--policy", policy, "--dataset", dataset, *more
    )


def test_a_sound_policy_says_who_may_do_what(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "policy.toml").write_text(WITH_RULES)
    assert run("policy", "check", files / "policy.toml") == 0
    said = capsys.readouterr()
    assert "ask 2 of alice, bob" in said.out
    assert "policy.toml:13 datasets.heart.rules[0]" in said.out
    assert "max_epsilon: 2.5" in said.out
    assert "sha256" in said.err
    assert "warning" not in said.err
    assert run("policy", "check", files / "policy.toml", "--output", "json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["budgets"] == [
        {
            "lineage": "heart",
            "epsilon": 8.0,
            "delta": 1e-5,
            "rule": "policy.toml:10 budgets.heart",
        }
    ]
    actions = [row["action"] for row in facts["rules"]]
    assert actions == ["within caps", "deny", "allow", "ask 2 of alice, bob", "deny"]


def test_a_wrong_policy_is_an_error_with_file_line_key_and_suggestion(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "policy.toml").write_text(WITH_RULES.replace("approvers =", "aprovers ="))
    assert run("policy", "check", files / "policy.toml") == 2
    error = capsys.readouterr().err
    assert f"{files}/policy.toml:22: datasets.heart.rules[2].aprovers: unknown key" in error
    assert "did you mean 'approvers'?" in error
    assert run("policy", "check", files / "nothing.toml") == 5


def test_a_policy_is_checked_against_its_site(
    site: OneSite, capsys: pytest.CaptureFixture[str]
) -> None:
    config = site.directory / "site.toml"
    policy = site.config.site.policy
    assert run("policy", "check", "--config", config) == 0
    assert "warning" not in capsys.readouterr().err
    policy.write_text(
        WITH_RULES.replace("[budgets.heart]", "[budgets.lung]")
        + POLICY.split("[budgets")[0].replace("datasets.heart", "datasets.liver")
    )
    assert run("policy", "check", "--config", config) == 0
    warnings = capsys.readouterr().err
    assert "policy.toml:2 datasets.heart: no [budgets.heart], so every job is denied" in warnings
    assert "policy.toml:3 datasets.heart.submitters: no key of 'intern'" in warnings
    assert "policy.toml:10 budgets.lung: no data set has this lineage" in warnings
    assert "datasets.liver: the site has no such data set" in warnings
    ask = "datasets.heart.rules[2]"
    assert f"{ask}.approvers: no key of 'bob'" in warnings
    assert f"{ask}.approvals: 2 must approve, and the site has 0 of their keys" in warnings


def test_an_allowed_job_is_explained(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(files) == 0
    out = capsys.readouterr().out
    assert "allowed by policy.toml:2 datasets.heart" in out
    assert "signed by scientist" in out
    (files / "policy.toml").write_text(WITH_RULES)
    assert explain(files, "--submitter", "scientist") == 0
    assert "asks by policy.toml:19 datasets.heart.rules[2]: 2 of alice, bob" in (
        capsys.readouterr().out
    )


def test_a_denied_job_is_explained_by_rule_job_and_the_nearest_that_passes(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "policy.toml").write_text(POLICY.replace("max_rounds = 50", "max_rounds = 2"))
    assert explain(files) == 3
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "error[forbidden_by_policy]: job.toml is denied",
        "  rule   policy.toml:8 datasets.heart.max_rounds  <= 2",
        "  job    job.toml:13 training.rounds  3",
        "  help   change job.toml as below; then it is allowed",
    ]
    assert said.out.endswith("[training]\nrounds = 2  # was 3\n")


def test_a_decision_is_explained_for_programs(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "policy.toml").write_text(WITH_RULES.replace("max_epsilon = 4.0", "max_epsilon = 2.6"))
    assert explain(files, "-o", "json", "--at", "2026-11-25T22:00") == 3
    facts = json.loads(capsys.readouterr().out)
    assert facts["decision"]["rule"] == "policy.toml:6 datasets.heart.max_epsilon"
    assert facts["at"] == "2026-11-25T22:00:00+00:00"
    assert facts["nearest_job"]["changes"] == ["privacy.epsilon"]
    decisive = [step for step in facts["steps"] if step["decides"]]
    assert [step["rule"] for step in decisive] == [facts["decision"]["rule"]]
    assert len([step for step in facts["steps"] if step["rule"].endswith("]")]) == 3


def test_nobody_can_help_a_submitter_who_is_not_named(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(files, "--submitter", "stranger") == 3
    error = capsys.readouterr().err
    assert "policy.toml:3 datasets.heart.submitters  scientist" in error
    assert "no change of the job helps" in error


def test_the_hour_is_of_the_sites_clock(files: Path) -> None:
    text = 'time_zone = "Europe/Zurich"\n' + POLICY.replace(
        "max_rounds = 50", 'max_rounds = 50\nhours = "08:00-18:00"'
    )
    (files / "policy.toml").write_text(text)
    assert explain(files, "--at", "2026-11-25T17:59") == 0
    assert explain(files, "--at", "2026-11-25T18:00") == 3
    assert explain(files, "--at", "2026-11-25T17:00+00:00") == 3
    assert explain(files, "--at", "tomorrow") == 2


def test_a_site_explains_with_its_own_files(
    site: OneSite, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = site.directory / "site.toml"
    assert run("policy", "explain", files / "job.toml", "--config", config) == 0
    (files / "job.toml").write_text(JOB + '[cohort]\nsites = ["va"]\n')
    assert run("policy", "explain", files / "job.toml", "--config", config) == 3
    assert "the job: cohort.sites" in capsys.readouterr().err
    (files / "job.toml").write_text(JOB.replace('dataset = "heart"', 'dataset = "lung"'))
    assert run("policy", "explain", files / "job.toml", "--config", config) == 3
    assert "error[unknown_dataset]" in capsys.readouterr().err
    assert explain(files, "--config", str(config)) == 3
    policy = str(files / "policy.toml")
    assert run("policy", "explain", files / "job.toml", "--policy", policy) == 2


def test_a_diff_says_what_it_means_and_where(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = files / "policy.toml", files / "new.toml"
    old.write_text(WITH_RULES)
    new.write_text(
        WITH_RULES.replace("max_epsilon = 4.0", "max_epsilon = 3.5")
        .replace("approvals = 2", "approvals = 1")
        .replace('"logistic", "mlp"', '"logistic", "cnn"')
        .replace("epsilon = 8.0", "epsilon = 9.0")
    )
    assert run("policy", "diff", old, new, "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(each["direction"], each["key"], each["new_line"]) for each in found] == [
        ("looser", "budgets.heart.epsilon", 11),
        ("changed", "datasets.heart.models", 5),
        ("stricter", "datasets.heart.max_epsilon", 6),
        ("looser", "datasets.heart.rules[2]", 19),
    ]
    assert run("policy", "diff", old, new) == 0
    assert "policy.toml:6" in capsys.readouterr().out
    assert run("policy", "diff", old, old) == 0
    assert "no difference" in capsys.readouterr().err


def test_the_audit_log_is_listed_and_verified(
    site: OneSite, capsys: pytest.CaptureFixture[str]
) -> None:
    config = site.directory / "site.toml"
    path = site.config.site.state / "audit.log"
    now = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
    log = AuditLog(path, now=lambda: now)
    before = log.length
    log.record(
        actor="alice",
        action="approved",
        object="run-7",
        decision="allow",
        reason="looked at it",
        policy_sha256=None,
    )
    assert run("audit-log", "--config", config, "-o", "json") == 0
    entries = json.loads(capsys.readouterr().out)
    assert entries[-1]["object"] == "run-7"
    assert run("audit-log", "--config", config) == 0
    assert "looked at it" in capsys.readouterr().out
    assert run("audit-log", "--config", config, "--verify", "-o", "json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["entries"], facts["head"]) == (before + 1, log.head)
    path.write_bytes(path.read_bytes().replace(b"run-7", b"run-8"))
    assert run("audit-log", "--config", config, "--verify") == 8


def test_a_rule_that_forgot_its_kinds_is_refused_with_what_to_write(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = '[[datasets.heart.rules]]\naction = "allow"\nmodels = ["logistic"]\n'
    (files / "policy.toml").write_text(POLICY.replace('["train"]', '["train", "count"]') + rule)
    assert run("policy", "check", files / "policy.toml") == 2
    assert 'write kinds = ["train"]' in capsys.readouterr().err
