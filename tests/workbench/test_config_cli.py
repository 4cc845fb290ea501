"""`sordino config`, `sordino paths`, `sordino doctor`: on the files of a whole federation."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from real_federation import hospitals
from typer.testing import CliRunner

from sordino.cli import app
from sordino_deploy.local import Layout, LocalFederation
from sordino_protocols.errors import ExitCode, InputError, NotFoundError

SITE = "cleveland"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> LocalFederation:
    """Everybody's files, as they were made."""
    directory = tmp_path_factory.mktemp("prepared")
    made = LocalFederation(directory / "f", hospitals(directory / "data", [SITE]))
    made.prepare()
    made.close()  # its sockets' directory is gone, as after a reboot
    return made


@pytest.fixture
def files(prepared: LocalFederation, tmp_path: Path) -> Layout:
    """A copy to break."""
    shutil.copytree(prepared.layout.root, tmp_path / "f")
    return Layout(tmp_path / "f")


@pytest.fixture
def site(files: Layout) -> Path:
    return files.site(SITE) / "site.toml"


def sordino(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def settings(*arguments: str | Path) -> dict[str, dict[str, object]]:
    done = sordino("config", "show", *arguments, "--output", "json")
    assert done.exit_code == 0, done.output
    return {each["key"]: each for each in json.loads(done.stdout)}


def test_every_value_is_shown_with_who_says_it(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site.parent / "site.d").mkdir()
    drop_in = site.parent / "site.d" / "10-log.toml"
    drop_in.write_text('[log]\nlevel = "debug"\n')
    monkeypatch.setenv("SORDINO_SITE__LINK__SERVER", "10.0.0.1:9443")
    found = settings("--site", site)
    assert found["link.server"]["value"] == "10.0.0.1:9443"
    assert found["link.server"]["origin"] == "SORDINO_SITE__LINK__SERVER"
    assert found["log.level"]["origin"] == f"{drop_in}:2"
    assert found["site.name"]["origin"] == f"{site}:2"
    assert found["site.policy"]["value"] == str(site.parent / "policy.toml")
    assert found["training.device"]["layer"] == "default"
    table = sordino("config", "show", "--site", site, "--origin").stdout
    assert "environment: SORDINO_SITE__LINK__SERVER" in table


def test_what_is_set_on_the_command_line_goes_before_all_else(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORDINO_SITE__SITE__KEEP_RELEASES_DAYS", "20")
    said = ("--set", "site.keep_releases_days=30", "--set", "log.level=debug")
    found = settings("--site", site, *said)
    assert found["site.keep_releases_days"]["value"] == 30
    assert found["site.keep_releases_days"]["origin"] == "--set"
    assert found["log.level"]["layer"] == "flag"
    table = sordino("config", "show", "--site", site, "--origin", *said).stdout
    assert "flag: --set" in table
    assert "SORDINO_SITE_SET" not in os.environ


def test_what_is_set_is_checked_as_everything_else_is(files: Layout, site: Path) -> None:
    assert sordino("config", "check", "--site", site, "--set", "log.level=debug").exit_code == 0
    gone = sordino("config", "check", "--site", site, "--set", "site.policy=gone.toml")
    assert "gone.toml: no such file, so everything is refused" in gone.stderr
    typo = sordino("config", "check", "--site", site, "--set", "site.keep_relases_days=30")
    assert "did you mean 'keep_releases_days'?" in str(typo.exception)
    two = ("--site", site, "--server", files.server / "server.toml")
    several = sordino("config", "check", *two, "--set", "log.level=debug")
    assert isinstance(several.exception, InputError)
    assert "--set is about one configuration" in str(several.exception)


def test_every_daemon_takes_settings_and_names_a_wrong_one(
    files: Layout, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = files.server / "server.toml"
    daemons = (("server", "run", server), ("site", "vault", site), ("site", "link", site))
    program, wrong = str(Path(sys.executable).with_name("sordino")), ("--set", "log.levle=info")
    started = [
        subprocess.Popen(
            [program, noun, verb, "-c", str(path), *wrong], stderr=subprocess.PIPE, text=True
        )
        for noun, verb, path in daemons
    ]
    for process in started:
        _, error = process.communicate(timeout=120)
        assert process.returncode == ExitCode.USAGE
        assert "--set: log.levle: unknown key; did you mean 'level'?" in error
    monkeypatch.setenv("SORDINO_SITE_SET", "")  # and back to what it was, afterwards
    refused = sordino("site", "run", "-c", site, *wrong).exception
    assert "--set: log.levle: unknown key; did you mean 'level'?" in str(refused)
    # What it starts gets its environment, and so reads the same.
    assert json.loads(os.environ["SORDINO_SITE_SET"]) == ["log.levle=info"]


def test_what_is_shown_is_what_is_used(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORDINO_SITE__SITE__NAME", "elsewhere")
    done = sordino("doctor", "--site", site)
    assert "speaks for elsewhere" in done.stdout


def test_sound_files_are_said_to_be(files: Layout, site: Path) -> None:
    server = files.server / "server.toml"
    done = sordino("config", "check", "--site", site, "--server", server)
    assert done.exit_code == 0, done.output
    assert f"{site}: sound" in done.stderr
    assert f"{server}: sound" in done.stderr


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("site.toml", "node_key", "nod_key", "link.nod_key: unknown key; did you mean 'node_key'?"),
        ("policy.toml", "submitters", "submiters", "did you mean 'submitters'?"),
        ("datasets.d/dataset.toml", "version", "verzion", "did you mean 'version'?"),
    ],
)
def test_a_typo_in_any_of_a_sites_files_is_found(
    site: Path, name: str, old: str, new: str, says: str
) -> None:
    path = site.parent / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    error = sordino("config", "check", "--site", site).exception
    assert isinstance(error, InputError)
    assert says in str(error)
    assert str(path) in str(error)


def test_a_site_without_a_policy_is_warned_of(site: Path) -> None:
    (site.parent / "policy.toml").unlink()
    done = sordino("config", "check", "--site", site)
    assert done.exit_code == 0
    assert "everything is refused" in done.stderr


def test_where_nothing_is_configured_it_is_said_where_was_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for command in (("config", "check"), ("config", "show"), ("doctor",)):
        error = sordino(*command).exception
        assert isinstance(error, NotFoundError)
        assert str(tmp_path / "sordino" / "site.toml") in str(error)
    places = {each["what"]: each for each in json.loads(sordino("paths", "-o", "json").stdout)}
    assert places["site.toml"]["path"] == str(tmp_path / "sordino" / "site.toml")
    assert places["site.toml"]["exists"] is False


def diagnoses(*arguments: str | Path) -> tuple[int, dict[str, dict[str, str]]]:
    done = sordino("doctor", *arguments, "--output", "jsonl")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return done.exit_code, {f"{each['for']}: {each['check']}": each for each in found}


def test_every_problem_comes_with_what_to_do(files: Layout, site: Path) -> None:
    server = files.server / "server.toml"
    code, found = diagnoses("--site", site, "--server", server)
    assert code == ExitCode.ERROR
    wrong = {name: each["outcome"] for name, each in found.items() if each["outcome"] != "ok"}
    assert wrong == {
        "site: socket": "warning",
        "site: self-test": "problem",
        "site: vault": "problem",
        "site: link": "problem",
        "site: server": "problem",
        "server: daemon": "problem",
    }
    assert all(found[name]["fix"] for name in wrong)
    assert "sordino audit self-test --site" in found["site: self-test"]["fix"]


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("keys/cleveland.key", "signing key"),
        ("keys/server.pub", "server's key"),
        ("keys/cleveland.node.key", "node key"),
        ("keys/cleveland.mask.key", "mask key"),
        ("datasets.d/cleveland.csv", "data set dataset"),
        ("policy.toml", "policy"),
        ("submitters/scientist.pub", "submitters"),
    ],
)
def test_what_is_missing_at_a_site_is_found(site: Path, name: str, check: str) -> None:
    assert diagnoses("--site", site)[1][f"site: {check}"]["outcome"] == "ok"
    (site.parent / name).unlink()
    assert diagnoses("--site", site)[1][f"site: {check}"]["outcome"] != "ok"


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("tls/server.crt", "certificate"),
        ("tls/server.key", "private key"),
        ("keys/server.key", "signing key"),
        ("nodes/cleveland.pub", "sites"),
        ("submitters/scientist.pub", "submitters"),
    ],
)
def test_what_is_missing_at_a_server_is_found(files: Layout, name: str, check: str) -> None:
    server = files.server / "server.toml"
    assert diagnoses("--server", server)[1][f"server: {check}"]["outcome"] == "ok"
    (server.parent / name).unlink()
    assert diagnoses("--server", server)[1][f"server: {check}"]["outcome"] != "ok"


def test_a_broken_configuration_is_a_diagnosis_too(site: Path) -> None:
    site.write_text(site.read_text().replace("node_key", "nod_key"))
    code, found = diagnoses("--site", site)
    assert code == ExitCode.ERROR
    assert list(found) == ["site: configuration"]
    assert "did you mean 'node_key'?" in found["site: configuration"]["detail"]


def test_the_other_roles_are_looked_after(files: Layout, tmp_path: Path) -> None:
    audit = tmp_path / "audit.toml"
    audit.write_text('[audit]\nreports = "reports"\n')
    (tmp_path / "reports").mkdir()
    _, found = diagnoses("--audit", audit, "--profile", files.scientist / "profile.toml")
    assert found["audit: runs"]["outcome"] == "warning"
    assert found["audit: reports"]["outcome"] == "ok"
    assert found["profile: signing key"]["outcome"] == "ok"
    assert found["profile: server"]["outcome"] == "problem"
