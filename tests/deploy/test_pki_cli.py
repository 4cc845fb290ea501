"""The commands of enrolment as people type them, from two empty hosts to a revoked person."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from sordino.cli import app
from sordino_protocols.errors import AuthenticationError, InputError


class Shell:
    """Types commands in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.told = ""

    def run(self, *arguments: str, says: str = "") -> Result:
        """Run a command that succeeds; what it says of a fingerprint is remembered."""
        result = CliRunner().invoke(app, arguments, input=says, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        if "fingerprint " in result.stderr:
            self.told = result.stderr.rpartition("fingerprint ")[2].split()[0]
        return result

    def refuses(self, *arguments: str) -> Exception | None:
        """The error of a command that fails."""
        result = CliRunner().invoke(app, arguments)
        assert not isinstance(result.exception, SystemExit), result.output
        return result.exception if isinstance(result.exception, Exception) else None


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    typed = Shell(tmp_path)
    typed.run("server", "init", "--host", "fl.example.org", "--directory", "server")
    typed.run("site", "init", "va", "--directory", "site")
    return typed


SITE = ("--config", "site/site.toml")
SERVER = ("--config", "server/server.toml")


def test_a_site_is_let_in_by_fingerprints_told_by_telephone(shell: Shell) -> None:
    shell.run("site", "enroll", *SITE)
    request, told = "site/va.request.json", shell.told
    wrong = shell.refuses("pki", "approve", request, *SERVER, "--fingerprint", "aa:bb")
    assert isinstance(wrong, AuthenticationError)
    assert "not the one expected" in str(wrong)
    shell.run("pki", "approve", request, *SERVER, "--fingerprint", told.upper().replace(":", ""))
    answer, told = "site/va.answer.json", shell.told
    shell.run("site", "enroll", *SITE, "--answer", answer, "--fingerprint", told)
    assert 'server = "fl.example.org:9443"' in Path("site/site.toml").read_text()
    # Renewal: the keys are known, and nobody has to compare anything again.
    shell.run("site", "enroll", *SITE)
    shell.run("pki", "approve", request, *SERVER)
    shell.run("site", "enroll", *SITE, "--answer", answer)


def test_a_no_lets_nobody_in(shell: Shell) -> None:
    shell.run("site", "enroll", *SITE)
    CliRunner().invoke(app, ["pki", "approve", "site/va.request.json", *SERVER], input="n\n")
    assert list(Path("server/sites").iterdir()) == []
    assert not Path("site/va.answer.json").exists()
    shell.run("pki", "approve", "site/va.request.json", *SERVER, says="y\n")
    assert Path("server/sites/va.pub").exists()


def test_a_person_comes_and_goes(shell: Shell) -> None:
    shell.run("pki", "request", "ann", "--directory", "ann")
    request = "ann/ann.request.json"
    shell.run("pki", "approve", request, *SERVER, "--yes")
    shell.run("pki", "install", "ann/ann.answer.json", "--directory", "ann", "--yes")
    shell.run("site", "trust", request, *SITE, "--yes")
    assert Path("site/submitters/ann.pub").read_text() == Path("ann/keys/ann.pub").read_text()
    shell.run("pki", "revoke", "ann", *SERVER, "--yes")
    listed = json.loads(shell.run("pki", "list", *SERVER, "--output", "json").stdout)
    assert {each["name"]: each["state"] for each in listed} == {"ann": "revoked", "server": "valid"}
    assert "was revoked" in str(shell.refuses("pki", "approve", request, *SERVER, "--yes"))


def test_sites_trust_each_others_keys_for_sums(shell: Shell) -> None:
    shell.run("site", "init", "vb", "--directory", "other")
    shell.run("site", "enroll", "--config", "other/site.toml")
    shell.run("site", "trust", "other/vb.request.json", *SITE, "--fingerprint", shell.told)
    own = Path("other/keys/vb.mask.pub").read_text()
    assert Path("site/peers/vb.mask.pub").read_text() == own


def test_every_kind_of_file_is_shown(shell: Shell) -> None:
    shell.run("site", "enroll", *SITE)
    told = shell.told
    shell.run("pki", "approve", "site/va.request.json", *SERVER, "--yes")
    for file, expected in (
        ("site/va.request.json", told),
        ("site/va.answer.json", shell.told),
        ("server/tls/server.crt", "fl.example.org"),
        ("server/pki/ca.crt", "sordino-authority"),
    ):
        assert expected in shell.run("pki", "show", file).stdout


def test_the_server_is_renewed(shell: Shell) -> None:
    before = Path("server/tls/server.crt").read_bytes()
    assert "expires" in shell.run("pki", "renew", *SERVER, "--days", "30").stderr
    assert Path("server/tls/server.crt").read_bytes() != before


def test_the_authority_is_renewed_and_reaches_a_site_with_its_next_answer(shell: Shell) -> None:
    def renew_site() -> None:
        shell.run("site", "enroll", *SITE)
        shell.run("pki", "approve", "site/va.request.json", *SERVER, "--yes")
        shell.run("site", "enroll", *SITE, "--answer", "site/va.answer.json", "--yes")

    at_site, at_server = Path("site/link/ca.crt"), Path("server/pki/ca.crt")
    renew_site()
    done = shell.run("pki", "renew-ca", *SERVER, "--days", "7300")
    assert "sites and people need it by" in done.stderr
    assert at_site.read_bytes() != at_server.read_bytes()
    renew_site()
    assert at_site.read_bytes() == at_server.read_bytes()
    assert "name more days" in str(shell.refuses("pki", "renew-ca", *SERVER, "--days", "30"))


def test_a_server_without_a_host_is_refused(shell: Shell) -> None:
    error = shell.refuses("server", "init", "--host", "no host", "--directory", "x")
    assert isinstance(error, InputError)
    assert not Path("x/server.toml").exists()
