"""A ledger as a file of lines, which anybody who has the site's public key can check offline.

The first line is a header: the site, the version of the format, and the head that the site signed.
Each further line is one entry, byte for byte as its hash was taken: the SHA-256 of a line is the
`previous` of the next one. An entry that a recovery sealed as it was found may be no JSON at all;
its line is an object with the one key `sealed`. What must stay true: what is read back is what the
ledger holds, row for row.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sordino_client.chain import Entry, Walk
from sordino_client.chain_store import Row
from sordino_protocols.errors import InputError, IntegrityError, NotFoundError
from sordino_protocols.heads import SignedHead, sign_head, verify_head
from sordino_protocols.signing import Signer, TrustStore, canonical_json

EXPORT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Export:
    """What a file says; nothing about it is verified.

    Attributes:
        site: whose ledger.
        head: of the ledger when it was exported.
        rows: all entries.
    """

    site: str
    head: SignedHead
    rows: tuple[Row, ...]

    def verified(self, trust: TrustStore) -> tuple[Entry, ...]:
        """Every entry that is not sealed.

        Raises:
            AuthenticationError: the site's key did not sign the head.
            IntegrityError: an entry was changed, removed or reordered, or the last is another one.
        """
        verify_head(self.head, site=self.site, trust=trust)
        walk = Walk()
        entries = tuple(walk.verified(self.rows))
        if (walk.length, walk.head) != (self.head.length, self.head.hash):
            raise IntegrityError("the export does not end where the site says that its ledger does")
        return entries


def export_lines(rows: Iterable[Row], signer: Signer) -> Iterator[str]:
    """The lines of an export, each with its end.

    Raises:
        IntegrityError: the chain does not hold; then nothing is given.
    """
    kept = tuple(rows)
    walk = Walk()
    for _ in walk.verified(kept):
        pass
    head = sign_head(signer, length=walk.length, hash=walk.head)
    header = {
        "sordino": "ledger",
        "version": EXPORT_VERSION,
        "site": signer.name,
        "ledger_head": asdict(head),
    }
    yield canonical_json(header).decode("ascii") + "\n"
    for row in kept:
        yield _line(row) + "\n"


def read_export(path: Path) -> Export:
    """Read a file of `export_lines`.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no export; names the line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file") from None
    header = _object(lines[0], f"{path}:1") if lines else {}
    site, heads = header.get("site"), tuple(heads_in(header))
    is_known = header.get("sordino") == "ledger" and header.get("version") == EXPORT_VERSION
    if not is_known or not isinstance(site, str) or len(heads) != 1:
        raise InputError(f"{path}:1: expected the header of a ledger's export, version 1")
    rows = (_row(line, f"{path}:{number}") for number, line in enumerate(lines[1:], start=2))
    return Export(site, heads[0], tuple(rows))


def heads_in(document: object) -> Iterator[SignedHead]:
    """Every ledger head in a JSON document, wherever it stands: of an export, a run, a certificate.

    Raises:
        InputError: something has a head's fields and cannot be one.
    """
    match document:
        case {"length": int(length), "hash": str(recorded), "signature": str(signature), **rest}:
            if not rest:
                yield SignedHead(length, recorded, signature)
        case dict():
            for each in document.values():
                yield from heads_in(each)
        case list():
            for each in document:
                yield from heads_in(each)
        case _:
            return


def _line(row: Row) -> str:
    if _is_plain(row):
        return row.body.decode("ascii")
    sealed = {"seq": row.seq, "body": base64.b64encode(row.body).decode("ascii"), "hash": row.hash}
    return canonical_json({"sealed": sealed}).decode("ascii")


def _is_plain(row: Row) -> bool:
    """Whether the entry's own bytes are a line, and say all that its row does."""
    try:
        facts = json.loads(row.body)
        return (
            hashlib.sha256(row.body).hexdigest() == row.hash
            and canonical_json(facts) == row.body
            and facts["seq"] == row.seq
            and "sealed" not in facts
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _row(line: bytes, place: str) -> Row:
    facts = _object(line, place)
    match facts:
        case {"sealed": {"seq": int(seq), "body": str(body), "hash": str(recorded)}}:
            try:
                return Row(seq, base64.b64decode(body, validate=True), recorded)
            except binascii.Error:
                raise InputError(f"{place}: a sealed entry's body must be base64") from None
        case {"seq": int(seq)}:
            return Row(seq, line, hashlib.sha256(line).hexdigest())
        case _:
            raise InputError(f"{place}: expected a ledger entry")


def _object(line: bytes, place: str) -> dict[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{place}: expected a JSON object")
    return value
