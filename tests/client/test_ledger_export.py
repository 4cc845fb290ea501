from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from ledger_tampering import TAMPERING
from postgres import Cluster
from small_ledger import fill, hold, now

from sordino_client.chain_store import Location, Row, read_rows
from sordino_client.ledger import Ledger
from sordino_client.ledger_export import (
    _line,
    _row,
    export_lines,
    heads_in,
    read_export,
)
from sordino_client.outbox import Outbox
from sordino_client.recovery import Recoverer, SiteMemory
from sordino_protocols.errors import AuthenticationError, InputError, IntegrityError, NotFoundError
from sordino_protocols.heads import GENESIS, SignedHead, sign_head
from sordino_protocols.signing import Signer, TrustStore

SITE = Signer("cleveland", Ed25519PrivateKey.generate())
TRUST = TrustStore({"cleveland": SITE.key.public_key()})


def exported(store: Location, path: Path) -> Path:
    path.write_text("".join(export_lines(read_rows(store), SITE)))
    return path


def test_what_is_read_back_is_what_the_ledger_holds(
    store: Location, ledger: Ledger, tmp_path: Path
) -> None:
    fill(ledger)
    export = read_export(exported(store, tmp_path / "export.jsonl"))
    assert export.site == "cleveland"
    assert export.rows == tuple(read_rows(store))
    assert (export.head.length, export.head.hash) == (ledger.length, ledger.head)
    assert [entry.facts["kind"] for entry in export.verified(TRUST)][:2] == ["hold", "reserve"]


def test_both_stores_hold_the_same_bytes(postgres: Cluster, tmp_path: Path) -> None:
    file, database = tmp_path / "ledger.db", postgres.new_database()
    for store in (file, database):
        opened = Ledger(store, now=now)
        fill(opened)
        opened.close()
    assert tuple(read_rows(file)) == tuple(read_rows(database))
    assert len(tuple(read_rows(file))) == 5


def test_an_empty_ledger_has_an_export(store: Location, ledger: Ledger, tmp_path: Path) -> None:
    export = read_export(exported(store, tmp_path / "export.jsonl"))
    assert (export.rows, export.head.hash, ledger.length) == ((), GENESIS, 0)
    assert export.verified(TRUST) == ()


def test_a_stranger_s_export_is_not_the_site_s(
    store: Location, ledger: Ledger, tmp_path: Path
) -> None:
    fill(ledger)
    export = read_export(exported(store, tmp_path / "export.jsonl"))
    stranger = TrustStore({"cleveland": Ed25519PrivateKey.generate().public_key()})
    with pytest.raises(AuthenticationError):
        export.verified(stranger)


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda each: each.__name__)
def test_entries_that_were_sealed_are_exported_as_they_were_found(
    store: Location, ledger: Ledger, tmp_path: Path, tamper: Callable[[Location], None]
) -> None:
    fill(ledger)
    ledger.close()
    tamper(store)
    with pytest.raises(IntegrityError):
        exported(store, tmp_path / "broken.jsonl")
    memory = SiteMemory(Outbox(tmp_path / "outbox"), tmp_path / "runs", {})
    recoverer = Recoverer(store, memory, now=now)
    recoverer.recover("tampered with")
    recoverer.close()
    again = Ledger(store, now=now)
    hold(again, "run-9")
    again.close()
    path = exported(store, tmp_path / "export.jsonl")
    export = read_export(path)
    assert export.rows == tuple(read_rows(store))
    assert export.verified(TRUST)[-1].facts["run_id"] == "run-9"
    # Nobody may drop what was sealed.
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:-3], *lines[-2:]]))
    with pytest.raises(IntegrityError):
        read_export(path).verified(TRUST)


@given(st.integers(0, 2**53), st.binary(max_size=60), st.text(max_size=20))
def test_any_row_is_one_line_and_comes_back(seq: int, body: bytes, recorded: str) -> None:
    row = Row(seq, body, recorded)
    line = _line(row)
    assert "\n" not in line
    assert _row(line.encode("ascii"), "here") == row


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "no json",
        '{"sordino": "ledger", "version": 1, "site": "a"}',
        '{"sordino": "ledger", "version": 2, "site": "a", "ledger_head": HEAD}',
        '{"sordino": "ledger", "version": 1, "site": "a", "ledger_head": HEAD}\n[]',
        '{"sordino": "ledger", "version": 1, "site": "a", "ledger_head": HEAD}\n{"seq": "1"}',
        '{"sordino": "ledger", "version": 1, "site": "a", "ledger_head": HEAD}\n{"sealed": BAD}',
        '{"sordino": "ledger", "version": 1, "site": "a", "ledger_head": HEAD}'.replace(
            "HEAD", '{"length": -1, "hash": "", "signature": ""}'
        ),
    ],
)
def test_what_is_no_export_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "export.jsonl"
    head = f'{{"length": 0, "hash": "{GENESIS}", "signature": "{"00" * 64}"}}'
    path.write_text(
        text.replace("HEAD", head).replace("BAD", '{"seq": 1, "body": "?", "hash": ""}')
    )
    with pytest.raises(InputError):
        read_export(path)


def test_a_missing_export_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_export(tmp_path / "export.jsonl")


def test_heads_are_found_wherever_they_stand() -> None:
    head = sign_head(SITE, length=1, hash="ab" * 32)
    facts = {"length": 1, "hash": "ab" * 32, "signature": head.signature}
    document = {"a": [facts, {"b": facts}], "c": {"length": 1}, "d": "x", "e": facts | {"more": 1}}
    assert list(heads_in(document)) == [head, head]
    with pytest.raises(InputError):
        list(heads_in(facts | {"hash": "no hash"}))
    assert isinstance(head, SignedHead)
