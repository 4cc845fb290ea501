"""A vault's restarts: those after an end without a word count, the others do not."""

from pathlib import Path

import pytest

from sordino_client.restarts import note_end, note_start, read_restarts
from sordino_protocols.errors import IntegrityError


def test_a_start_after_an_end_that_was_told_is_no_restart(tmp_path: Path) -> None:
    for _ in range(3):
        note_start(tmp_path)
        note_end(tmp_path)
    assert read_restarts(tmp_path) == 0


def test_every_start_after_a_silent_end_counts(tmp_path: Path) -> None:
    for _ in range(3):
        note_start(tmp_path)
    assert read_restarts(tmp_path) == 2
    note_end(tmp_path)
    note_start(tmp_path)
    assert read_restarts(tmp_path) == 2


def test_a_count_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "vault.restarts").write_text("many")
    with pytest.raises(IntegrityError, match="remove it"):
        read_restarts(tmp_path)
