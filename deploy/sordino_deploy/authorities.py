"""Whether two certificates are of one authority: what lets it be renewed without anybody's trust.

An authority is a name and a key. Whoever trusts it may take a newer certificate of the same two,
if the key itself signed it: nobody else can have made that.
"""

from cryptography import x509
from cryptography.exceptions import InvalidSignature


def is_same_authority(known: x509.Certificate, shown: x509.Certificate) -> bool:
    """Whether a certificate is of an authority that is known: same name, same key, signed by it."""
    if shown == known:
        return True
    try:
        shown.verify_directly_issued_by(known)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return shown.subject == known.subject and shown.public_key() == known.public_key()


def renews(known: x509.Certificate, shown: x509.Certificate) -> bool:
    """Whether a certificate is of an authority that is known, and counts for longer."""
    counts_longer = shown.not_valid_after_utc > known.not_valid_after_utc
    return counts_longer and is_same_authority(known, shown)
