"""A ledger's store that is not heard of again in the middle of a write."""

from collections.abc import Iterator

from sordino_client.chain_store import ChainStore, Row
from sordino_client.ledger import Ledger
from sordino_protocols.errors import UnreachableError


class DeadLine:
    """A store whose next answer is lost: after it did what it was told, or before."""

    def __init__(self, store: ChainStore, *, is_stored: bool) -> None:
        self.store = store
        self._is_stored = is_stored
        self._is_dead = True

    def rows(self) -> Iterator[Row]:
        return self.store.rows()

    def append(self, row: Row) -> float:
        if not self._is_dead:
            return self.store.append(row)
        self._is_dead = False
        if self._is_stored:
            self.store.append(row)
        raise UnreachableError("the line went dead")

    def reopen(self) -> None:
        self.store.reopen()

    def close(self) -> None:
        self.store.close()


def break_the_line(ledger: Ledger, *, is_stored: bool) -> None:
    """Lose the answer to the next entry."""
    store = ledger._chain._store
    whole = store.store if isinstance(store, DeadLine) else store
    ledger._chain._store = DeadLine(whole, is_stored=is_stored)
