import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sordino_protocols.errors import AuthenticationError, InputError
from sordino_protocols.heads import GENESIS, SignedHead, sign_head, verify_head
from sordino_protocols.signing import Signer, TrustStore

NEWEST = "ab" * 32
SITE = Signer("cleveland", Ed25519PrivateKey.generate())
OTHER = Signer("hungarian", Ed25519PrivateKey.generate())
TRUST = TrustStore({each.name: each.key.public_key() for each in (SITE, OTHER)})


def test_a_head_is_its_sites_own() -> None:
    head = sign_head(SITE, length=7, hash=NEWEST)
    verify_head(head, site="cleveland", trust=TRUST)
    with pytest.raises(AuthenticationError):
        verify_head(head, site="hungarian", trust=TRUST)
    with pytest.raises(AuthenticationError):
        verify_head(head, site="nobody", trust=TRUST)


@pytest.mark.parametrize("changed", [(8, NEWEST), (7, "cd" * 32)])
def test_a_changed_head_is_nobodys(changed: tuple[int, str]) -> None:
    signature = sign_head(SITE, length=7, hash=NEWEST).signature
    with pytest.raises(AuthenticationError):
        verify_head(SignedHead(*changed, signature), site="cleveland", trust=TRUST)


@pytest.mark.parametrize(
    ("length", "newest", "signature"),
    [
        (-1, NEWEST, "00" * 64),
        (2**53, NEWEST, "00" * 64),
        (0, NEWEST, "00" * 64),
        (1, GENESIS, "00" * 64),
        (1, NEWEST.upper(), "00" * 64),
        (1, NEWEST[1:], "00" * 64),
        (1, NEWEST, "00" * 63),
        (1, NEWEST, "0g" * 64),
    ],
)
def test_refuses_what_is_no_head(length: int, newest: str, signature: str) -> None:
    with pytest.raises(InputError):
        SignedHead(length, newest, signature)


def test_an_empty_ledger_has_a_head() -> None:
    verify_head(sign_head(SITE, length=0, hash=GENESIS), site="cleveland", trust=TRUST)
