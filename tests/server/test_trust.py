"""Keys and revocations that are looked up again while a process runs."""

from pathlib import Path

import pytest

from sordino_deploy import issued, pki
from sordino_protocols.certificates import read_certificate
from sordino_protocols.errors import AuthenticationError, NotFoundError
from sordino_protocols.revocations import list_path
from sordino_protocols.signing import REVOKED, Signer, save_keypair
from sordino_server.trust import LOOK_SECONDS, LiveRevocations, live_trust


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def tick(self) -> None:
        self.now += LOOK_SECONDS


def enrol(directory: Path, name: str) -> Signer:
    signer = save_keypair(directory.parent / "keys", name)
    pki.trust(directory.parent / "keys" / f"{name}.pub", directory)
    return signer


def test_a_key_counts_no_more_soon_after_its_file_is_gone(tmp_path: Path) -> None:
    directory, clock = tmp_path / "sites", Clock()
    signer = enrol(directory, "va")
    trust = live_trust(directory, clock=clock)
    trust.verify("va", b"x", signer.sign(b"x"))
    (directory / REVOKED).mkdir()
    (directory / "va.pub").rename(directory / REVOKED / "va.pub")
    clock.tick()
    with pytest.raises(AuthenticationError):
        trust.verify("va", b"x", signer.sign(b"x"))
    assert list(trust.keys) == []
    # What was signed before is still known to be theirs.
    trust.with_revoked().verify("va", b"x", signer.sign(b"x"))


def test_a_new_key_counts_soon(tmp_path: Path) -> None:
    directory, clock = tmp_path / "sites", Clock()
    enrol(directory, "a")
    trust = live_trust(directory, clock=clock)
    added = enrol(directory, "b")
    clock.tick()
    trust.verify("b", b"x", added.sign(b"x"))


def test_a_broken_file_changes_nothing_for_the_others(tmp_path: Path) -> None:
    directory, clock = tmp_path / "sites", Clock()
    a, b = enrol(directory, "a"), enrol(directory, "b")
    trust = live_trust(directory, clock=clock)
    (directory / "c.pub").write_text("half a ke")
    (directory / "b.pub").unlink()
    clock.tick()
    trust.verify("a", b"x", a.sign(b"x"))
    with pytest.raises(AuthenticationError):
        trust.verify("b", b"x", b.sign(b"x"))
    assert set(trust.keys) == {"a"}
    # What was signed before is still known to be theirs, though no file can be read now.
    trust.with_revoked().verify("b", b"x", b.sign(b"x"))


def test_a_decision_counts_within_a_minute() -> None:
    # The sites' door takes a change at the second look that sees it.
    assert 0 < 3 * LOOK_SECONDS < 60


def test_a_directory_that_is_missing_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        live_trust(tmp_path / "nowhere")


def test_revocations_are_read_again_and_never_taken_back(tmp_path: Path) -> None:
    directory, clock = tmp_path / "ca", Clock()
    pki.create_authority(directory, name="authority")
    request = pki.create_request(tmp_path, "va")
    pem = issued.certify(directory, request, name="va", role=pki.Role.SITE)
    (tmp_path / "va.crt").write_bytes(pem)
    serial = read_certificate(tmp_path / "va.crt").serial_number
    revocations = LiveRevocations(directory / issued.CERTIFICATE, clock=clock)
    assert not revocations.is_revoked(serial)
    issued.revoke(directory, "va")
    clock.tick()
    assert revocations.is_revoked(serial)
    assert not revocations.is_revoked(serial + 1)
    for content in (b"broken", None):
        path = list_path(directory / issued.CERTIFICATE)
        path.unlink() if content is None else path.write_bytes(content)
        clock.tick()
        assert revocations.is_revoked(serial)
