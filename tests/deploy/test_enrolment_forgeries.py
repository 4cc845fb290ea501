"""Requests and answers that somebody made up, and what a fingerprint stands for."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sordino_deploy import issued, pki
from sordino_deploy.enrolment import (
    EnrolmentAnswer,
    EnrolmentRequest,
    Shown,
    make_request,
    read_answer,
    read_request,
    write_json,
)
from sordino_protocols.errors import AuthenticationError, InputError
from sordino_protocols.signing import Signer, public_line

NAME = "va"
SIGNER = Signer(NAME, Ed25519PrivateKey.generate())
TLS_KEY = ec.generate_private_key(ec.SECP256R1())
NODE_KEY = ec.generate_private_key(ec.SECP384R1())


def openssh(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> str:
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return f"{line.decode()} {NAME}\n"


SHOWN = Shown(
    name=NAME,
    role="site",
    certificate_request=pki.sign_own_request(TLS_KEY, NAME).decode(),
    signing_key=public_line(SIGNER),
    node_key=openssh(NODE_KEY),
    mask_key="x25519 AAAA va\n",
)


def requested(shown: Shown, directory: Path, *, signer: Signer = SIGNER) -> EnrolmentRequest:
    """The request as it is read, proven by every key that we have."""
    node_key = None if shown.node_key is None else NODE_KEY
    made = make_request(shown, signer, certificate_key=TLS_KEY, node_key=node_key)
    path = directory / "x.request.json"
    path.write_bytes(write_json(made))
    return read_request(path)


def test_a_signing_key_that_speaks_for_somebody_else_is_refused(tmp_path: Path) -> None:
    assert requested(SHOWN, tmp_path).shown == SHOWN
    other = Signer("vb", SIGNER.key)
    forged = SHOWN.model_copy(update={"signing_key": public_line(other)})
    with pytest.raises(AuthenticationError):
        requested(forged, tmp_path, signer=other)


def test_a_site_has_a_node_key_and_nobody_else_has_one(tmp_path: Path) -> None:
    for change in ({"node_key": None}, {"role": "submitter"}, {"role": "operator"}):
        with pytest.raises(InputError, match="holds a key that is none"):
            requested(SHOWN.model_copy(update=change), tmp_path)


def test_a_node_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    ed25519 = openssh(Ed25519PrivateKey.generate())
    with pytest.raises(InputError, match="holds a key that is none"):
        requested(SHOWN.model_copy(update={"node_key": ed25519}), tmp_path)


@pytest.mark.parametrize("field", sorted(Shown.model_fields))
def test_the_fingerprint_of_a_request_stands_for_all_of_it(field: str) -> None:
    other = {"role": "operator", "mask_key": None, "node_key": None}.get(field, "other")
    changed = SHOWN.model_copy(update={field: other})
    assert changed.fingerprint != SHOWN.fingerprint
    assert len(SHOWN.fingerprint.replace(":", "")) == 128 // 4


def answer_of(directory: Path) -> EnrolmentAnswer:
    authority = pki.create_authority(directory, name="authority")
    pem = issued.certify(
        directory, SHOWN.certificate_request.encode(), name=NAME, role=pki.Role.SITE
    )
    return EnrolmentAnswer(
        name=NAME,
        role="site",
        certificate=pem.decode(),
        authority=authority.pem().decode(),
        server_key=public_line(Signer("server", SIGNER.key)),
        server="fl.example.org:9443",
        gateway="fl.example.org:9444",
    )


def test_the_fingerprint_of_an_answer_stands_for_whom_to_trust(tmp_path: Path) -> None:
    one, two = answer_of(tmp_path / "one"), answer_of(tmp_path / "two")
    stranger = public_line(Signer("server", Ed25519PrivateKey.generate()))
    changes = ({"authority": two.authority}, {"server_key": stranger})
    prints = {one.model_copy(update=each).fingerprint for each in changes}
    assert len(prints | {one.fingerprint}) == 3
    assert len(one.fingerprint.replace(":", "")) == 128 // 4


def test_an_answer_whose_authority_did_not_sign_it_is_refused(tmp_path: Path) -> None:
    one, two = answer_of(tmp_path / "one"), answer_of(tmp_path / "two")
    path = tmp_path / "x.answer.json"
    path.write_bytes(write_json(one))
    assert read_answer(path) == one
    path.write_bytes(write_json(one.model_copy(update={"authority": two.authority})))
    with pytest.raises(InputError, match="expected an answer"):
        read_answer(path)
