import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sordino_client.outbox import Outbox, Release, write_durably
from sordino_protocols.errors import IntegrityError

RELEASE = Release("ab" * 32, b"sealed")


def test_a_release_comes_back_as_it_was_after_a_restart(tmp_path: Path) -> None:
    Outbox(tmp_path / "outbox").put("run-1", "round-1", RELEASE)
    again = Outbox(tmp_path / "outbox")
    assert again.get("run-1", "round-1") == RELEASE
    assert again.get("run-1", "round-2") is None
    assert again.get("run-2", "round-1") is None


def test_one_step_has_one_release_for_ever(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put("run-1", "round-1", RELEASE)
    outbox.put("run-1", "round-1", RELEASE)
    for other in (Release("ab" * 32, b"other"), Release("cd" * 32, b"sealed")):
        with pytest.raises(IntegrityError, match="second, different release for run-1/round-1"):
            outbox.put("run-1", "round-1", other)
    assert outbox.get("run-1", "round-1") == RELEASE


def test_releases_of_a_run_lie_side_by_side(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for number in range(3):
        outbox.put("run-1", f"round-{number}", Release("ab" * 32, bytes([number + 1])))
    outbox.put("run-2", "round-1", RELEASE)
    assert [outbox.get("run-1", f"round-{n}") for n in range(3)] == [
        Release("ab" * 32, bytes([n + 1])) for n in range(3)
    ]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "A", "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    outbox = Outbox(tmp_path / "outbox")
    with pytest.raises(ValueError, match="cannot name a file"):
        outbox.put(name, "round-1", RELEASE)
    with pytest.raises(ValueError, match="cannot name a file"):
        outbox.get("run-1", name)
    assert [path.name for path in tmp_path.rglob("*")] == ["outbox"]


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    Outbox(tmp_path / "outbox").put("run-1", "round-1", RELEASE)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "outbox").rglob("*")}
    assert modes == {0o600, 0o700}


@pytest.mark.parametrize("size", [0, 1, 32])
def test_a_release_that_is_cut_short_is_found(tmp_path: Path, size: int) -> None:
    Outbox(tmp_path).put("run-1", "round-1", RELEASE)
    (stored,) = tmp_path.rglob("*.release")
    stored.write_bytes(stored.read_bytes()[:size])
    with pytest.raises(IntegrityError, match="cut short"):
        Outbox(tmp_path).get("run-1", "round-1")


def test_a_file_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The order of the system's calls is what survives a power cut; this records the real calls.
    calls: list[str] = []

    def recorded(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **keywords: object) -> object:
            calls.append(name)
            return real(*arguments, **keywords)

        return call

    for name in ("fsync", "rename"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))
    path = tmp_path / "run" / "file"
    path.parent.mkdir()
    write_durably(path, b"content")
    assert path.read_bytes() == b"content"
    # The content, then the name, then both directories that hold it.
    assert calls == ["fsync", "rename", "fsync", "fsync"]
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_what_is_stored_is_listed(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    assert outbox.runs() == ()
    assert outbox.releases("run-1") == ()
    for run_id, step in (("run-2", "round-10"), ("run-1", "round-2"), ("run-1", "admission")):
        outbox.put(run_id, step, RELEASE)
    (tmp_path / "Old releases").mkdir()
    (tmp_path / "notes").write_text("mine")
    assert Outbox(tmp_path).runs() == ("run-1", "run-2")
    assert outbox.releases("run-1") == ("admission", "round-2")


def test_what_a_crash_left_aside_is_no_release(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1" / ".round-1.release.7.new").write_bytes(b"half")
    assert outbox.get("run-1", "round-1") is None
    assert outbox.releases("run-1") == ()
    outbox.put("run-1", "round-1", RELEASE)
    assert outbox.get("run-1", "round-1") == RELEASE
