"""Backups of a site: what is in them, and that nobody gets budget back by one."""

import io
import json
import shutil
import stat
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from one_site import OneSite, evaluate, refusal, round_plan, settle
from postgres import Cluster

from sordino_client import site_backup
from sordino_client.config import SiteConfig
from sordino_client.ledger import read_entries
from sordino_client.recovery import Recoverer, SiteMemory
from sordino_client.site_backup import back_up_site, restore_site
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.errors import InputError, IntegrityError, NotFoundError
from sordino_protocols.heads import sign_head
from sordino_protocols.messages import Recall, Recalled, Receipt, Refusal, Update

Changed = Callable[[Path, Path], None]


def back_up(site: OneSite, path: Path) -> Path:
    back_up_site(site.config, path, now=site.now)
    return path


def restore(site: OneSite, path: Path) -> None:
    """What a site admin does when the disk is gone."""
    site.close()
    shutil.rmtree(site.config.site.state)
    restore_site(site.config, path, now=site.now)
    site.open()


@pytest.fixture
def under_way(site: OneSite, tmp_path: Path) -> Path:
    """A backup of a site in the middle of a run, taken while it runs."""
    site.ask(site.admit())
    site.ask(round_plan(1))
    return back_up(site, tmp_path / "site.tar")


def test_a_restored_site_goes_on_where_the_backup_was_taken(site: OneSite, under_way: Path) -> None:
    first = site.site.answer(site.seal(round_plan(1)))
    before = (site.spent, site.held, site.ledger.head, site.ledger.length)
    admitted = site.runs.get("run-1")
    assert admitted is not None
    restore(site, under_way)
    assert (site.spent, site.held, site.ledger.head, site.ledger.length) == before
    again = site.runs.get("run-1")
    assert again is not None
    assert (again.salt, again.coins.tolist()) == (admitted.salt, admitted.coins.tolist())
    assert site.site.answer(site.seal(round_plan(1))) == first
    assert isinstance(site.ask(round_plan(2)), Update)
    site.ask(evaluate())
    assert isinstance(site.ask(settle()), Receipt)


def test_everything_that_a_site_keeps_is_in_a_backup(site: OneSite, under_way: Path) -> None:
    state = site.config.site.state
    kept = {each.relative_to(state).as_posix() for each in state.rglob("*") if each.is_file()}
    with tarfile.open(under_way) as archive:
        saved = set(archive.getnames())
    assert saved - {"manifest.json"} == {
        name for name in kept if not name.startswith("ledger.db-") and name != "ledger.db.lock"
    }
    assert {"ledger.db", "runs/run-1.json", "outbox/run-1/round-1.release"} < saved


def test_a_backup_and_what_comes_of_it_are_for_their_owner_alone(
    site: OneSite, under_way: Path
) -> None:
    restore(site, under_way)
    state = site.config.site.state
    assert stat.S_IMODE(under_way.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for path in (state / "ledger.db", *(state / "outbox").rglob("*"), *(state / "runs").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_restore_is_on_record(site: OneSite, under_way: Path) -> None:
    restore(site, under_way)
    text = site.config.audit_log_path.read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    assert entries[-1]["action"] == "restored"
    assert site.now.isoformat() in entries[-1]["reason"]
    AuditLog(site.config.audit_log_path, now=lambda: site.now)  # the chain goes on


# ------------------------------------------------------------------ no budget comes back


def test_a_restored_site_that_the_server_remembers_better_works_no_more(
    site: OneSite, under_way: Path
) -> None:
    site.ask(round_plan(2))
    spent = site.spent
    newest = sign_head(site.site._signer, length=site.ledger.length, hash=site.ledger.head)
    restore(site, under_way)
    assert site.spent < spent
    assert refusal(site.ask(Recall("run-2", newest))) is Refusal.INTEGRITY
    # Not even what was answered before, and not after a restart.
    assert refusal(site.ask(round_plan(2))) is Refusal.INTEGRITY
    site.open()
    assert refusal(site.ask(round_plan(1))) is Refusal.INTEGRITY
    recover(site)
    assert site.spent >= spent
    assert isinstance(site.ask(Recall("run-2", newest)), Recalled)


def recover(site: OneSite) -> None:
    state = site.config.site.state
    site.close()
    memory = SiteMemory(site.outbox, state / "runs", {"heart": "heart"})
    recoverer = Recoverer(site.config.ledger_path, memory, now=lambda: site.now)
    recoverer.recover("the disk broke and the backup of the night was put back")
    recoverer.close()
    site.open()


# ------------------------------------------------------------------ taken while the site answers


def test_a_release_that_is_newer_than_the_copied_ledger_stays_out(
    site: OneSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ask(site.admit())
    site.ask(round_plan(1))
    copy = site_backup._copy_ledger

    def copy_and_go_on(location: Path, target: Path) -> None:
        copy(location, target)
        site.ask(round_plan(2))

    monkeypatch.setattr(site_backup, "_copy_ledger", copy_and_go_on)
    path = back_up(site, tmp_path / "site.tar")
    restore(site, path)
    assert site.ledger.halted is None
    assert site.outbox.releases("run-1") == ("admission", "round-1")
    assert isinstance(site.ask(round_plan(2)), Update)


def test_a_release_that_the_ledger_never_knew_of_is_no_newer_one(
    site: OneSite, tmp_path: Path
) -> None:
    # Somebody took the newest entries: a backup must not wash that away.
    site.ask(site.admit())
    shutil.copytree(site.config.site.state, tmp_path / "older")
    site.ask(round_plan(1))
    site.close()
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        (site.config.site.state / name).unlink(missing_ok=True)
    for path in (tmp_path / "older").glob("ledger.db*"):
        shutil.copy(path, site.config.site.state / path.name)
    path = back_up(site, tmp_path / "site.tar")
    restore(site, path)
    assert site.ledger.halted is not None


def test_backups_of_a_busy_site_are_whole(site: OneSite, tmp_path: Path) -> None:
    site.ask(site.admit())
    is_over = threading.Event()

    def answer() -> None:
        for number in range(1, 4):
            site.ask(round_plan(number))
        is_over.set()

    thread = threading.Thread(target=answer)
    thread.start()
    taken: list[Path] = []
    while not is_over.is_set() or not taken:
        taken.append(back_up(site, tmp_path / f"{len(taken)}.tar"))
    thread.join()
    for path in (taken[0], taken[len(taken) // 2], taken[-1]):
        restore(site, path)
        assert site.ledger.halted is None
        released = set(site.outbox.releases("run-1")) - {"admission"}
        assert released <= set(site.ledger.steps("run-1"))


# ------------------------------------------------------------------ what is refused


def test_nothing_is_overwritten(site: OneSite, under_way: Path) -> None:
    before = under_way.read_bytes()
    with pytest.raises(InputError, match="overwrites nothing"):
        back_up(site, under_way)
    site.close()
    ledger = site.config.ledger_path.read_bytes()
    with pytest.raises(InputError, match="not empty; a restore overwrites nothing"):
        restore_site(site.config, under_way, now=site.now)
    assert (under_way.read_bytes(), site.config.ledger_path.read_bytes()) == (before, ledger)


def _flip(path: Path, changed: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"SQLite format 3") + 200] ^= 1
    changed.write_bytes(content)


def _cut(path: Path, changed: Path) -> None:
    changed.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _nothing(_: Path, changed: Path) -> None:
    changed.write_bytes(b"")


def _rewritten(path: Path, changed: Path, change: Callable[[tarfile.TarInfo], None]) -> None:
    with tarfile.open(path) as old, tarfile.open(changed, "w") as new:
        for info in old:
            content = old.extractfile(info)
            assert content is not None
            if info.name != "manifest.json":
                change(info)
            new.addfile(info, io.BytesIO(content.read()))


def _outside(path: Path, changed: Path) -> None:
    _rewritten(path, changed, lambda info: setattr(info, "name", f"../../{info.name}"))


def _absolute(path: Path, changed: Path) -> None:
    _rewritten(path, changed, lambda info: setattr(info, "name", f"/{info.name}"))


def _renamed(path: Path, changed: Path) -> None:
    _rewritten(path, changed, lambda info: setattr(info, "name", f"x{info.name}"))


def _linked(path: Path, changed: Path) -> None:
    shutil.copy(path, changed)
    with tarfile.open(changed, "a") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)


@pytest.mark.parametrize("change", [_flip, _cut, _nothing, _outside, _absolute, _renamed, _linked])
def test_a_backup_that_is_not_as_it_was_written_is_put_nowhere(
    site: OneSite, under_way: Path, tmp_path: Path, change: Changed
) -> None:
    changed = tmp_path / "changed.tar"
    change(under_way, changed)
    site.close()
    state = site.config.site.state
    shutil.rmtree(state)
    with pytest.raises(IntegrityError):
        restore_site(site.config, changed, now=site.now)
    assert not state.exists()
    assert not [*state.parent.glob(".restoring-*")]


def test_a_backup_of_another_site_or_of_none_is_refused(
    site: OneSite, under_way: Path, tmp_path: Path
) -> None:
    site.close()
    section = site.config.site.model_copy(update={"name": "hungary", "state": tmp_path / "new"})
    other: SiteConfig = replace(site.config, site=section)
    with pytest.raises(InputError, match="a backup of site 'cleveland', not of site 'hungary'"):
        restore_site(other, under_way, now=site.now)
    with pytest.raises(NotFoundError, match="no such backup"):
        restore_site(site.config, tmp_path / "none.tar", now=site.now)
    assert not (tmp_path / "new").exists()


# ------------------------------------------------------------------ a ledger in PostgreSQL


def test_a_ledger_in_a_database_is_backed_up_and_put_back(
    site: OneSite, under_way: Path, tmp_path: Path, postgres: Cluster
) -> None:
    length, head = site.ledger.length, site.ledger.head
    url_file = tmp_path / "ledger.url"
    urls = [postgres.new_database() for _ in range(2)]

    def configured(number: int) -> SiteConfig:
        url_file.write_text(urls[number].render_as_string(hide_password=False))
        url_file.chmod(0o600)
        state = tmp_path / f"state-{number}"
        update = {"ledger_url_file": url_file, "state": state}
        return replace(site.config, site=site.config.site.model_copy(update=update))

    first = configured(0)
    restore_site(first, under_way, now=site.now)
    with pytest.raises(InputError, match="database is not empty"):
        restore_site(first, under_way, now=site.now)
    again = tmp_path / "again.tar"
    back_up_site(first, again, now=site.now)
    restore_site(configured(1), again, now=site.now)
    entries = list(read_entries(urls[1]))
    assert (len(entries), entries[-1]["hash"]) == (length, head)
    assert not (tmp_path / "state-1" / "ledger.db").exists()
