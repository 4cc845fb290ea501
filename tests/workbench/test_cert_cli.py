"""`sordino cert`: what a person types, and the exit codes that a script reads."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from certified import (
    AUDITOR,
    JOB_TEXT,
    MODEL_FILE,
    RUN_ID,
    SERVER,
    SITE_KEYS,
    SUBMITTER,
    certificate,
    made,
    understated,
)
from cryptography.hazmat.primitives import serialization
from plausible_run import plausible_run

from sordino.cert_cli import cert_app
from sordino_audit.sealing import sealed, to_json
from sordino_protocols.certificate import Certificate, read_certificate, schema_json
from sordino_protocols.files import write_secret
from sordino_protocols.signing import Signer, public_line
from sordino_protocols.terminal import run_command

Said = tuple[int, str, str]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def run(*arguments: str | Path) -> Said:
        def command() -> int:
            result = cert_app([str(each) for each in arguments], standalone_mode=False)
            return result if isinstance(result, int) else 0

        code = run_command(command)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A certificate, and everything that it can be held against."""
    write(tmp_path, certificate())
    (tmp_path / "model.safetensors").write_bytes(MODEL_FILE)
    (tmp_path / "job.toml").write_text(JOB_TEXT)
    (tmp_path / "server.pub").write_text(public_line(SERVER))
    for name, signers in {
        "sites": list(SITE_KEYS.values()),
        "submitters": [SUBMITTER],
        "auditors": [AUDITOR],
    }.items():
        (tmp_path / name).mkdir()
        for signer in signers:
            (tmp_path / name / f"{signer.name}.pub").write_text(public_line(signer))
    return tmp_path


def write(folder: Path, issued: Certificate) -> Path:
    path = folder / "certificate.json"
    path.write_bytes(issued.canonical())
    return path


def keys(folder: Path) -> list[str | Path]:
    return [
        *("--server", folder / "server.pub"),
        *("--sites", folder / "sites"),
        *("--submitters", folder / "submitters"),
        *("--auditors", folder / "auditors"),
    ]


def everything(folder: Path) -> list[str | Path]:
    others = (("--model", folder / "model.safetensors"), ("--job", folder / "job.toml"))
    return [folder / "certificate.json", *keys(folder), *(each for pair in others for each in pair)]


def test_a_good_certificate_is_0(folder: Path, say: Callable[..., Said]) -> None:
    code, out, err = say("verify", *everything(folder))
    assert (code, err) == (0, "")
    assert out.startswith("holds")
    assert "recognises at most" in out


def test_without_keys_it_says_what_to_compare(folder: Path, say: Callable[..., Said]) -> None:
    code, _, err = say("verify", folder / "certificate.json")
    assert code == 0
    assert err.count("came with the certificate") == 5
    assert "submitter scientist was not checked" in err


def test_an_edited_certificate_is_8(folder: Path, say: Callable[..., Said]) -> None:
    path = folder / "certificate.json"
    path.write_text(path.read_text().replace('"epsilon_spent_pld":3.', '"epsilon_spent_pld":1.', 1))
    code, out, err = say("verify", *everything(folder))
    assert code == 8
    assert "integrity: signature:" in out
    assert "claim: sites.cleveland.claims.epsilon_spent_pld:" in out
    assert "does not hold" in err


def test_a_file_that_is_none_is_8(folder: Path, say: Callable[..., Said]) -> None:
    path = folder / "certificate.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    code, out, err = say("verify", path)
    assert (code, out) == (8, "")
    assert f"{path}: the certificate is not in canonical form" in err


def test_an_understated_epsilon_is_9(folder: Path, say: Callable[..., Said]) -> None:
    path = write(folder, made().changed("va", understated).certificate())
    code, out, _ = say("verify", path, *keys(folder), "--output", "json")
    assert code == 9
    found = json.loads(out)
    assert found["holds"] is False
    assert [each["field"] for each in found["problems"]] == ["sites.va.claims.epsilon_spent_pld"]
    assert found["problems"][0]["ground"] == "claim"


@pytest.mark.parametrize(("option", "name"), [("--model", "server.pub"), ("--model", "job.toml")])
def test_another_model_is_8(folder: Path, say: Callable[..., Said], option: str, name: str) -> None:
    code, out, _ = say("verify", folder / "certificate.json", option, folder / name)
    assert code == 8
    assert "model_sha256" in out


def test_another_job_is_8(folder: Path, say: Callable[..., Said]) -> None:
    (folder / "job.toml").write_text(JOB_TEXT.replace("learning_rate = 2.0", "learning_rate = 1.0"))
    code, out, _ = say("verify", *everything(folder))
    assert (code, out) == (8, "integrity: job.body: the job file says something else\n")


@pytest.mark.parametrize("name", ["certificate.json", "server.pub", "model.safetensors"])
def test_a_missing_file_is_5(folder: Path, say: Callable[..., Said], name: str) -> None:
    (folder / name).unlink()
    code, _, err = say("verify", *everything(folder))
    assert code == 5
    assert name in err


def test_shows_a_certificate_in_the_terminal(folder: Path, say: Callable[..., Said]) -> None:
    code, out, _ = say("show", folder / "certificate.json")
    assert code == 0
    for words in ("small, train on heart", "cleveland", "One person at several sites", "6.9%"):
        assert words in out
    code, out, _ = say("show", folder / "certificate.json", "--output", "json")
    assert json.loads(out) == json.loads(certificate().canonical())


def test_writes_a_page_whatever_it_finds(folder: Path, say: Callable[..., Said]) -> None:
    page = folder / "page.html"
    path = folder / "certificate.json"
    assert say("page", path, "--out", page, *keys(folder)) == (0, f"{page}\n", "")
    assert "The certificate holds." in page.read_text(encoding="utf-8")
    write(folder, made().changed("va", understated).certificate())
    assert say("page", path, "-o", page, *keys(folder))[0] == 9
    assert "does not hold" in page.read_text(encoding="utf-8")


def _key_file(folder: Path, signer: Signer) -> Path:
    path = folder / f"{signer.name}.key"
    write_secret(
        path,
        signer.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    return path


def _audit(folder: Path, *, run_id: str = RUN_ID) -> Path:
    changed = {"run_id": run_id, "delta": 1e-5}
    document = sealed(plausible_run()["audit"].model_copy(update=changed))
    path = folder / "audit.json"
    path.write_text(to_json(document))
    return path


def test_an_auditor_attaches_an_audit(folder: Path, say: Callable[..., Said]) -> None:
    path = write(folder, made().certificate())
    code, _, err = say("attach", path, _audit(folder), "--key", _key_file(folder, AUDITOR))
    assert (code, err) == (0, "")
    attached = read_certificate(path.read_bytes())
    assert attached.audits[0].summary.verdict == plausible_run()["audit"].verdict
    assert say("verify", *everything(folder))[0] == 0


def test_an_audit_of_another_run_is_not_attached(folder: Path, say: Callable[..., Said]) -> None:
    path = write(folder, made().certificate())
    audit = _audit(folder, run_id="train-other")
    code, _, err = say("attach", path, audit, "--key", _key_file(folder, AUDITOR))
    assert code == 2
    assert "an audit of run train-other" in err


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda text: text.replace('"lower_bound": ', '"lower_bound": 9'), 8),
        (lambda text: text.replace('"verdict"', '"verdikt"'), 8),
        (lambda _: "[]", 2),
        (lambda _: "no json", 2),
    ],
)
def test_an_altered_audit_is_not_attached(
    folder: Path, say: Callable[..., Said], edit: Callable[[str], str], code: int
) -> None:
    path, audit = write(folder, made().certificate()), _audit(folder)
    audit.write_text(edit(audit.read_text()))
    assert say("attach", path, audit, "--key", _key_file(folder, AUDITOR))[0] == code
    assert read_certificate(path.read_bytes()).audits == ()


def test_prints_the_published_schema(say: Callable[..., Said]) -> None:
    assert say("schema") == (0, schema_json(), "")
