import datetime as dt
import os
from pathlib import Path

import pytest

from sordino_deploy import issued, pki
from sordino_protocols.certificates import (
    common_name,
    fingerprint,
    not_after,
    read_certificate,
    role,
)
from sordino_protocols.errors import InputError, IntegrityError, NotFoundError
from sordino_protocols.file_changes import FileChanges
from sordino_protocols.revocations import list_path, revoked_serials


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    pki.create_authority(tmp_path / "ca", name="authority")
    return tmp_path / "ca" / issued.CERTIFICATE


def issue(authority: Path, name: str, *, days: int = 30) -> Path:
    request = pki.create_request(authority.parent.parent / name, name)
    path = authority.parent.parent / name / f"{name}.crt"
    pem = issued.certify(authority.parent, request, name=name, role=pki.Role.SITE, days=days)
    path.write_bytes(pem)
    return path


def test_a_certificate_says_who_and_until_when(authority: Path) -> None:
    path = issue(authority, "va", days=30)
    read = read_certificate(path)
    assert (common_name(read), role(read)) == ("va", "site")
    left = not_after(path) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=29, hours=23) < left <= dt.timedelta(days=30)
    assert len(fingerprint(read).replace(":", "")) == 64
    assert role(read_certificate(authority)) == ""


def test_of_a_chain_the_first_counts(authority: Path, tmp_path: Path) -> None:
    chain = tmp_path / "chain.crt"
    chain.write_bytes(issue(authority, "va", days=5).read_bytes() + authority.read_bytes())
    assert common_name(read_certificate(chain)) == "va"


def test_what_is_no_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        not_after(tmp_path / "nowhere.crt")
    (tmp_path / "x.crt").write_text("nothing")
    with pytest.raises(InputError, match=r"x\.crt: expected a certificate in PEM"):
        not_after(tmp_path / "x.crt")
    with pytest.raises(InputError, match="cannot be read"):
        not_after(tmp_path)


def test_no_list_revokes_nobody_and_a_list_whom_it_names(authority: Path) -> None:
    first, second = (read_certificate(issue(authority, name)) for name in ("a", "b"))
    assert revoked_serials(authority) == frozenset()
    issued.revoke(authority.parent, "a")
    assert revoked_serials(authority) == {first.serial_number}
    issued.revoke(authority.parent, "b")
    assert revoked_serials(authority) == {first.serial_number, second.serial_number}


def test_a_list_that_its_authority_did_not_sign_is_an_error(
    authority: Path, tmp_path: Path
) -> None:
    pki.create_authority(tmp_path / "other", name="authority")
    other = tmp_path / "other" / issued.CERTIFICATE
    request = pki.create_request(tmp_path / "other", "x")
    issued.certify(other.parent, request, name="x", role=pki.Role.SITE)
    issued.revoke(other.parent, "x")
    list_path(authority).write_bytes(list_path(other).read_bytes())
    with pytest.raises(IntegrityError, match="not signed by the authority"):
        revoked_serials(authority)
    list_path(authority).write_text("")
    with pytest.raises(InputError, match="revocation list"):
        revoked_serials(authority)


def test_a_change_counts_once_two_looks_saw_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x"
    changes = FileChanges(lambda: [path])
    assert not changes.settled()
    path.write_text("half")
    assert not changes.settled()
    path.write_text("whole!")
    assert not changes.settled()
    assert changes.settled()
    assert not changes.settled()
    path.unlink()
    assert [changes.settled(), changes.settled(), changes.settled()] == [False, True, False]


def test_a_file_of_the_same_size_and_time_is_another(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("one")
    changes = FileChanges(lambda: [path])
    stamp = path.stat().st_mtime_ns
    (tmp_path / "y").write_text("two")
    os.utime(tmp_path / "y", ns=(stamp, stamp))
    (tmp_path / "y").replace(path)
    assert changes.differ()
    changes.take()
    assert not changes.differ()
