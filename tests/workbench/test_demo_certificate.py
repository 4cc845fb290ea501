"""The demo's certificate, on the directories that a local federation has."""

from pathlib import Path

import pytest
from certified import RUN_ID, SERVER, SITE_KEYS, SUBMITTER, made
from plausible_run import plausible_run

from sordino.demo_certificate import publish_certificate
from sordino_audit.sealing import sealed
from sordino_deploy.local import Layout
from sordino_protocols.certificate import read_certificate
from sordino_protocols.errors import IntegrityError
from sordino_protocols.signing import public_line
from sordino_server.runs import CERTIFICATE, RunDirectory, run_directory


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path / "demo")
    for folder, signers in {
        "keys": [SERVER],
        "sites": list(SITE_KEYS.values()),
        "submitters": [SUBMITTER],
    }.items():
        (found.server / folder).mkdir(parents=True)
        for signer in signers:
            (found.server / folder / f"{signer.name}.pub").write_text(public_line(signer))
    return found


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    path = tmp_path / RUN_ID
    path.mkdir()
    (path / CERTIFICATE).write_bytes(made().certificate().canonical())
    return run_directory(path)


def test_publishes_file_and_page_that_hold(layout: Layout, run: RunDirectory) -> None:
    changed = {"run_id": RUN_ID, "delta": 1e-5}
    audit = sealed(plausible_run()["audit"].model_copy(update=changed))
    published = publish_certificate(layout, run, audit)
    assert published.verification.problems == ()
    assert published.verification.notes == ()
    assert read_certificate(published.file.read_bytes()).audits[0].summary.run_id == RUN_ID
    assert "The certificate holds." in published.page.read_text(encoding="utf-8")
    for part in (layout.server / "sites", published.file):
        assert str(part) in published.command


def test_an_audit_of_another_run_does_not_hold(layout: Layout, run: RunDirectory) -> None:
    published = publish_certificate(layout, run, plausible_run()["audit"])
    fields = {problem.field for problem in published.verification.problems}
    assert "audits[0].summary.run_id" in fields
    assert "does not hold" in published.page.read_text(encoding="utf-8")


def test_a_broken_certificate_is_an_error(layout: Layout, run: RunDirectory) -> None:
    (run.path / CERTIFICATE).write_bytes(b"{}")
    with pytest.raises(IntegrityError):
        publish_certificate(layout, run, plausible_run()["audit"])
