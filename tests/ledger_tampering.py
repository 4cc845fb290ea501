"""What somebody who may write to a ledger's store can do to its entries."""

import hashlib

from small_ledger import execute

from sordino_client.chain_store import Location


def change_body(store: Location) -> None:
    ((body,),) = execute(store, "SELECT body FROM entries WHERE seq = 1")
    forged = bytes_of(body).replace(b"2026", b"2025")
    assert forged != body
    execute(store, "UPDATE entries SET body = ? WHERE seq = 1", (forged,))


def change_body_and_hash(store: Location) -> None:
    change_body(store)
    ((body,),) = execute(store, "SELECT body FROM entries WHERE seq = 1")
    forged = hashlib.sha256(bytes_of(body)).hexdigest()
    execute(store, "UPDATE entries SET hash = ? WHERE seq = 1", (forged,))


def remove_first(store: Location) -> None:
    execute(store, "DELETE FROM entries WHERE seq = 0")


def remove_middle(store: Location) -> None:
    execute(store, "DELETE FROM entries WHERE seq = 1")


def close_the_gap(store: Location) -> None:
    execute(store, "DELETE FROM entries WHERE seq = 1")
    execute(store, "UPDATE entries SET seq = 1 WHERE seq = 2")


def swap(store: Location) -> None:
    execute(store, "UPDATE entries SET seq = 99 WHERE seq = 1")
    execute(store, "UPDATE entries SET seq = 1 WHERE seq = 2")
    execute(store, "UPDATE entries SET seq = 2 WHERE seq = 99")


def repeat(store: Location) -> None:
    execute(
        store,
        "INSERT INTO entries SELECT (SELECT max(seq) + 1 FROM entries), body, hash FROM entries"
        " WHERE seq = 1",
    )


def bytes_of(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


TAMPERING = [
    change_body,
    change_body_and_hash,
    remove_first,
    remove_middle,
    close_the_gap,
    swap,
    repeat,
]


def rows_of(store: Location) -> list[tuple[object, ...]]:
    """All rows, in order."""
    return execute(store, "SELECT seq, body, hash FROM entries ORDER BY seq")
