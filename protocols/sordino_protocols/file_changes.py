"""Notice that files were changed, and that whoever changes them is done.

A certificate and its key are two files, and a copy takes a moment: what is read in between fits
nothing. So a change counts once two looks in a row saw the same.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

_Seen = frozenset[tuple[str, int, int, int]]


class FileChanges:
    """Compares the files of a list with how they were when they were last taken."""

    def __init__(self, paths: Callable[[], Iterable[Path]]) -> None:
        """Remember how the files are now.

        Args:
            paths: the files to look at, asked at each look; one that is absent is no error.
        """
        self._paths = paths
        self._taken = self._last = self._look()

    def settled(self) -> bool:
        """Whether they are otherwise than when this was last true, and were so a look ago."""
        before, self._last = self._last, self._look()
        if self._last == self._taken or self._last != before:
            return False
        self._taken = self._last
        return True

    def differ(self) -> bool:
        """Whether they are otherwise than when they were taken, settled or not."""
        self._last = self._look()
        return self._last != self._taken

    def take(self) -> None:
        """Take them as they were at the last look."""
        self._taken = self._last

    def _look(self) -> _Seen:
        return frozenset(seen for path in self._paths() for seen in _stat(path))


def _stat(path: Path) -> Iterable[tuple[str, int, int, int]]:
    try:
        found = path.stat()
    except OSError:
        return
    yield str(path), found.st_mtime_ns, found.st_size, found.st_ino
