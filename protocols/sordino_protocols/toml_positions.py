"""On which line of a TOML file each key stands.

`tomllib` reads values and forgets where they were, and a decision that names "policy.toml:31" is
worth more than one that names a key. This locator walks over text that `tomllib` has read already,
so it checks nothing: it only keeps, for every table, key and array item, the line where it begins.
"""

import re
import tomllib
from collections.abc import Mapping

from sordino_protocols.errors import InputError

Place = tuple[int | str, ...]
"""Keys and indices from the top of a file to a value."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# A quote may stand before the three that end a string, and up to two of them.
_STRING = re.compile(
    r'"""(?:[^"\\]|\\[\s\S]|"(?!""))*"""+'
    r"|'''(?:[^']|'(?!''))*'''+"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
)
# Of one dotted key: what is longer takes memory by the square of its length.
_MOST_NAMES = 100
_SCALAR = re.compile(r"[^,\]}#\n]*")


def line_numbers(text: str) -> Mapping[Place, int]:
    """The line, from 1, of every table, key and array item in TOML text.

    A table that only longer names imply stands where the first of them does.

    Raises:
        InputError: the text is not TOML.
    """
    walk = _Walk(text)
    try:
        tomllib.loads(text)
        walk.file()
    except RecursionError:
        raise InputError("not valid TOML for us: nested too deeply") from None
    except ValueError as error:  # tomllib's own, and Python's of a number with 5,000 digits
        raise InputError(f"not valid TOML: {error}") from None
    return walk.lines


def line_of(lines: Mapping[Place, int], place: Place) -> int | None:
    """The line of a place, or of the nearest table around it that is in the file; None if none."""
    while place:
        if place in lines:
            return lines[place]
        place = place[:-1]
    return None


class _Walk:
    """One pass over valid TOML text."""

    def __init__(self, text: str) -> None:
        # As tomllib does, so that an escaped line break has one character.
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._line, self._counted = 1, 0
        self._implied: set[Place] = set()
        self._lengths: dict[Place, int] = {}
        self.lines: dict[Place, int] = {}

    def file(self) -> None:
        table: Place = ()
        self._take(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._take(_BLANK)

    def _header(self) -> Place:
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        line = self._line_here()
        keys = self._keys()
        self._at += 2 if is_array else 1
        return self._open(keys, line, is_array=is_array)

    def _open(self, keys: list[str], line: int, *, is_array: bool) -> Place:
        place: Place = ()
        for key in keys[:-1]:
            place = (*place, key)
            self._note(place, line, is_implied=True)
            if place in self._lengths:
                # A name inside an array of tables means its last one.
                place = (*place, self._lengths[place] - 1)
        place = (*place, keys[-1])
        self._note(place, line)
        if is_array:
            index = self._lengths.get(place, 0)
            self._lengths[place] = index + 1
            place = (*place, index)
            self._note(place, line)
        return place

    def _pair(self, table: Place) -> None:
        line, place = self._line_here(), table
        keys = self._keys()
        for number, key in enumerate(keys, start=1):
            place = (*place, key)
            self._note(place, line, is_implied=number < len(keys))
        self._at += 1  # the "="
        self._take(_SPACE)
        self._value(place)

    def _value(self, place: Place) -> None:
        match self._text[self._at]:
            case '"' | "'":
                self._take(_STRING)
            case "[":
                self._array(place)
            case "{":
                self._inline_table(place)
            case _:
                self._take(_SCALAR)

    def _array(self, place: Place) -> None:
        self._at += 1
        index = 0
        self._take(_BLANK)
        while self._text[self._at] != "]":
            self._note((*place, index), self._line_here())
            self._value((*place, index))
            index += 1
            self._after_item()
        self._at += 1

    def _inline_table(self, place: Place) -> None:
        self._at += 1
        self._take(_BLANK)
        while self._text[self._at] != "}":
            self._pair(place)
            self._after_item()
        self._at += 1

    def _after_item(self) -> None:
        self._take(_BLANK)
        if self._text[self._at] == ",":
            self._at += 1
            self._take(_BLANK)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._take(_SPACE)
            quoted = self._text[self._at] in "\"'"
            word = self._take(_STRING if quoted else _BARE_KEY)
            keys.append(tomllib.loads(f"key = {word}")["key"] if quoted else word)
            self._take(_SPACE)
            if len(keys) > _MOST_NAMES:
                raise RecursionError
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise AssertionError(f"tomllib read what {pattern.pattern} does not match")
        self._at = found.end()
        return found.group()

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _note(self, place: Place, line: int, *, is_implied: bool = False) -> None:
        if place not in self.lines or (place in self._implied and not is_implied):
            self.lines[place] = line
            self._implied.discard(place)
            if is_implied:
                self._implied.add(place)
