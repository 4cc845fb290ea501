"""Masks that hide a site's numbers and vanish in the sum (Bonawitz et al. 2017, sec. 4.1).

Each pair of sites shares a secret that only they can work out, and makes of it as many 32-bit
numbers as the table has. One of the two adds them, the other subtracts them, modulo 2^32: in the
sum of all sites nothing is left of them. To whoever lacks the secret, a masked table is uniform
noise. A mask is made anew for each run, job and cohort, so it hides one table only.

Where sites stay silent, the others tell the sum of the masks that they share with those, and with
nobody else. That says nothing of a record. It uncovers what the server cannot: a silent site's own
table, should the server have it after all; so that table carries noise that was paid for in full.
"""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sordino_client.refusals import RefusedError
from sordino_client.synthesis.mask_keys import MaskKeys
from sordino_protocols.messages import Integers, Refusal
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.signing import canonical_json

Residues = npt.NDArray[np.uint32]
"""Whole numbers modulo 2^32."""

_CONTEXT = b"sordino/mask/1\n"
_KEY_BYTES = 32


def masked(
    numbers: npt.NDArray[np.int64],
    keys: MaskKeys,
    sites: Collection[str],
    *,
    run_id: str,
    job_digest: str,
) -> Integers:
    """A site's numbers under the masks that it shares with every other site of the sum.

    Args:
        numbers: what must not be seen alone.
        keys: of this site.
        sites: who takes part; this site among them.
        run_id: the run.
        job_digest: its job.

    Returns:
        modulo 2^32, as signed numbers.
    """
    hidden = (numbers % 2**32).astype(np.uint32)
    others = [each for each in sites if each != keys.site]
    hidden += sum_of_masks(
        keys, others, sites, run_id=run_id, job_digest=job_digest, count=len(numbers)
    )
    return hidden.view(np.int32)


def sum_of_masks(
    keys: MaskKeys,
    others: Collection[str],
    sites: Collection[str],
    *,
    run_id: str,
    job_digest: str,
    count: int,
) -> Residues:
    """The masks that a site shares with others, with its own signs, added up.

    Args:
        keys: of this site.
        others: whose masks; each has a pinned key.
        sites: everybody who takes part in the sum.
        run_id: the run.
        job_digest: its job.
        count: how many numbers the table has.
    """
    total = np.zeros(count, dtype=np.uint32)
    facts = {"run": run_id, "job": job_digest, "sites": sorted(sites)}
    for other in sorted(others):
        mask = _mask(_seed(keys, other, keys.peers[other], facts), count)
        # Modulo 2^32, as unsigned numbers are.
        if keys.site < other:
            total += mask
        else:
            total -= mask
    return total


def checked_missing(named: str, plan: SynthesisPlan | None, *, site: str) -> tuple[str, ...]:
    """The silent sites that a server names, if masks shared with them may be told.

    Args:
        named: sorted, with commas between.
        plan: of the run; None where it synthesizes nothing.
        site: who is asked.

    Raises:
        RefusedError: the run has no sum, more are named than may be silent or none, or one is
            unknown, twice there or this site: a server that names everybody else uncovers a table.
    """
    missing = tuple(named.split(",")) if named else ()
    if plan is None or plan.mode != "sum":
        raise RefusedError(Refusal.OUT_OF_ORDER, "the run has no sum")
    if not 1 <= len(missing) <= plan.silent:
        reason = f"{len(missing)} sites are named as silent, of {plan.silent} that may be"
        raise RefusedError(Refusal.FORBIDDEN_BY_POLICY, reason)
    if list(missing) != sorted(set(missing)):
        raise RefusedError(Refusal.MALFORMED, "the silent sites are not sorted, or named twice")
    if site in missing or not set(missing) <= set(plan.sites):
        raise RefusedError(Refusal.FORBIDDEN_BY_POLICY, "a named site is no other one of the sum")
    return missing


def _seed(
    keys: MaskKeys, other: str, public: X25519PublicKey, facts: dict[str, str | Sequence[str]]
) -> bytes:
    """A key of the pair for this sum: of the shared secret, and of all that must not differ."""
    own = keys.key.public_key()
    pair = {keys.site: own.public_bytes_raw().hex(), other: public.public_bytes_raw().hex()}
    info = _CONTEXT + canonical_json(dict(facts) | {"pair": pair})
    secret = keys.key.exchange(public)
    return HKDF(SHA256(), length=_KEY_BYTES, salt=None, info=info).derive(secret)


def _mask(seed: bytes, count: int) -> Residues:
    """As many uniform numbers as wanted. The key is used once, so the counter begins at 0."""
    encryptor = Cipher(AES256(seed), CTR(bytes(16))).encryptor()
    return np.frombuffer(encryptor.update(bytes(4 * count)), dtype="<u4").astype(np.uint32)
