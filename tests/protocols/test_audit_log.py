"""The audit log: every change found, every acknowledged entry kept, every crash survived."""

import datetime as dt
import json
import resource
import shutil
import signal
from pathlib import Path

import pytest

from sordino_protocols.audit_log import AuditLog, read_audit_log
from sordino_protocols.errors import IntegrityError, NotFoundError, UnreachableError
from sordino_protocols.heads import GENESIS

NOW = dt.datetime(2026, 11, 22, 6, 30, tzinfo=dt.UTC)
HASH = "ab" * 32


def open_log(path: Path) -> AuditLog:
    return AuditLog(path, now=lambda: NOW)


def record(log: AuditLog, run: str) -> None:
    log.record(
        actor="scientist",
        action="admitted",
        object=run,
        decision="allow",
        reason="policy.toml:2 datasets.heart",
        policy_sha256=HASH,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "audit.log"
    log = open_log(path)
    for number in range(3):
        record(log, f"run-{number}")
    return path


def test_entries_come_back_in_order_chained_and_after_a_restart(path: Path) -> None:
    record(open_log(path), "run-3")
    entries = read_audit_log(path)
    assert [entry.object for entry in entries] == ["run-0", "run-1", "run-2", "run-3"]
    assert [entry.seq for entry in entries] == [1, 2, 3, 4]
    heads = [GENESIS, *(entry.hash for entry in entries)]
    assert [entry.prev_hash for entry in entries] == heads[:-1]
    log = open_log(path)
    assert (log.head, log.length) == (heads[-1], 4)
    first = json.loads(path.read_text().splitlines()[0])
    facts = {"actor", "action", "object", "decision", "reason", "policy_sha256"}
    assert set(first) == facts | {"seq", "ts", "prev_hash", "hash"}
    assert first["ts"] == "2026-11-22T06:30:00.000Z"


def test_without_a_policy_or_any_entry_it_holds_together(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="has the vault run yet"):
        read_audit_log(tmp_path / "audit.log")
    log = open_log(tmp_path / "audit.log")
    assert (log.head, log.length) == (GENESIS, 0)
    assert read_audit_log(tmp_path / "audit.log") == ()
    log.record(
        actor="vault",
        action="refused",
        object="run-ü\n",
        decision="deny",
        reason="no policy",
        policy_sha256=None,
    )
    assert read_audit_log(tmp_path / "audit.log")[0].object == "run-ü\n"


def test_every_changed_byte_is_found(path: Path) -> None:
    content = path.read_bytes()
    for index in range(len(content)):
        for flipped in {content[index] ^ 1, ord("\n")} - {content[index]}:
            path.write_bytes(content[:index] + bytes([flipped]) + content[index + 1 :])
            with pytest.raises(IntegrityError, match=r"audit\.log"):
                read_audit_log(path)


def test_every_removed_or_reordered_or_added_line_is_found(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    variants = [
        [*lines[:1], *lines[2:]],
        lines[1:],
        lines[:-1],
        [],
        [lines[1], lines[0], lines[2]],
        [*lines, lines[-1]],
        [lines[0], *lines],
        [*lines, b"{}\n"],
    ]
    for variant in variants:
        path.write_bytes(b"".join(variant))
        with pytest.raises(IntegrityError, match=r"audit\.log"):
            open_log(path)


def test_an_old_copy_put_back_is_found_by_the_remembered_head(path: Path) -> None:
    aside = path.with_name("copy")
    shutil.copy(path, aside)
    log = open_log(path)
    record(log, "run-3")
    record(log, "run-4")
    shutil.copy(aside, path)
    with pytest.raises(IntegrityError, match="ends before the newest entry"):
        read_audit_log(path)
    with pytest.raises(IntegrityError, match="ends before"):
        record(log, "run-5")


def test_a_rewritten_chain_is_found_by_the_remembered_head(path: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged" / "audit.log"
    log = open_log(forged)
    for number in range(3):
        record(log, f"nicer-{number}")
    assert len(read_audit_log(forged)) == 3
    shutil.copy(forged, path)
    with pytest.raises(IntegrityError, match="ends before"):
        read_audit_log(path)


def test_a_missing_head_is_found(path: Path) -> None:
    path.with_name("audit.log.head").unlink()
    with pytest.raises(IntegrityError, match="missing"):
        read_audit_log(path)


def test_what_a_crash_cut_short_counts_for_nothing_and_nothing_is_erased(path: Path) -> None:
    content, log = path.read_bytes(), open_log(path)
    record(log, "run-3")
    whole = path.read_bytes()
    line = whole[len(content) :]
    head = path.with_name("audit.log.head")
    for cut in range(len(line)):
        # The crash came within the write: the head is still the one before.
        path.write_bytes(content)
        head.unlink()
        head.write_bytes(head_of(content))
        path.write_bytes(content + line[:cut])
        log = open_log(path)
        assert log.length == (4 if cut == len(line) - 1 else 3)
        record(log, "run-after")
        entries = read_audit_log(path)
        assert entries[-1].object == "run-after"
        assert len(entries) == log.length
        assert path.read_bytes().startswith(content + line[:cut])


def test_a_crash_before_the_head_was_put_in_place_loses_nothing(path: Path) -> None:
    head = path.with_name("audit.log.head")
    before = head.read_bytes()
    record(open_log(path), "run-3")
    head.write_bytes(before)
    assert len(read_audit_log(path)) == 4
    first = path.with_name("first") / "audit.log"
    record(open_log(first), "run-0")
    first.with_name("audit.log.head").unlink()
    assert open_log(first).length == 1


def test_two_processes_append_in_turn(path: Path) -> None:
    one, other = open_log(path), open_log(path)
    record(one, "one")
    record(other, "other")
    record(one, "one again")
    assert [entry.object for entry in read_audit_log(path)][3:] == ["one", "other", "one again"]


def test_only_the_vaults_user_reads_it(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def head_of(content: bytes) -> bytes:
    last = json.loads(content.splitlines()[-1])
    return json.dumps({"hash": last["hash"], "length": last["seq"]}, separators=(",", ":")).encode()


def test_an_entry_that_was_replaced_with_a_sound_one_is_found(path: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged" / "audit.log"
    log = open_log(forged)
    record(log, "run-0")
    record(log, "nicer")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = forged.read_bytes().splitlines(keepends=True)[1]
    path.write_bytes(b"".join(lines))
    with pytest.raises(IntegrityError, match=r"audit\.log:3: not the entry that follows"):
        read_audit_log(path)


def test_entries_that_somebody_else_added_are_found(path: Path) -> None:
    head = path.with_name("audit.log.head")
    before, log = head.read_bytes(), open_log(path)
    record(log, "run-3")
    record(log, "run-4")
    head.write_bytes(before)
    # A crash leaves at most one entry that the head does not know.
    with pytest.raises(IntegrityError, match="names"):
        read_audit_log(path)


def test_a_full_disk_records_nothing_and_the_log_goes_on_when_there_is_room(path: Path) -> None:
    log = open_log(path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # As many bytes as are left on a disk that is all but full: half an entry fits.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
        for _ in range(2):
            with pytest.raises(UnreachableError, match="cannot be written: File too large"):
                record(log, "run-3")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    record(log, "run-4")
    assert [entry.object for entry in read_audit_log(path)][3:] == ["run-4"]


def test_an_entry_whose_head_cannot_be_kept_is_taken_back(path: Path) -> None:
    log = open_log(path)
    before = path.read_bytes()
    # Whatever keeps the head from being written: here a directory has its place.
    in_the_way = path.with_name(f".{path.name}.head.new")
    in_the_way.mkdir()
    with pytest.raises(UnreachableError):
        record(log, "run-3")
    assert path.read_bytes() == before
    in_the_way.rmdir()
    record(log, "run-4")
    assert len(read_audit_log(path)) == 4
