"""What the SuperLink's database keeps of runs that are over, and how large its file stays."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from federation import make_job, make_signer
from flwr.app import Metadata
from flwr.app.message import make_message
from flwr.common.constant import SUPERLINK_NODE_ID, SubStatus
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from loopback import make_node_key
from server_host import Host, close_superlink, open_superlink, server_host

from sordino_protocols import flower
from sordino_protocols.job import new_nonce, sign_job
from sordino_server.bundle import build_fab
from sordino_server.queue import Queue
from sordino_server.superlink import SuperLink
from sordino_server.superlink_database import compact

MODEL = 200_000
"""Bytes of an envelope."""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with server_host(tmp_path / "federation") as running:
        yield running


def start_run(superlink: SuperLink) -> int:
    return superlink.start_run(build_fab("app:app", run_config={}))


def ask_a_site_that_is_away(host: Host, superlink: SuperLink, run: int, number: int) -> None:
    """Do what a server app's request does: the message lies there until the site takes it."""
    known = {each.name: each.node_id for each in superlink.nodes()}
    node = known.get("away") or superlink.register_node("away", make_node_key(host.directory / "k"))
    superlink._state.activate_node(node, 30.0)
    metadata = Metadata(
        run_id=run,
        message_id="",
        src_node_id=SUPERLINK_NODE_ID,
        dst_node_id=node,
        reply_to_message_id="",
        group_id="",
        created_at=time.time(),
        ttl=3600.0,
        message_type="train",
    )
    message = make_message(metadata, flower.to_record(bytes([number]) * MODEL))
    message.metadata.__dict__["_message_id"] = message.object_id
    state = superlink._state
    session = state.start_session(run)
    stored, _ = state.store_message_and_object_tree(message, get_object_tree(message), session)
    assert stored
    for object_id, content in get_all_nested_objects(message).items():
        state.object_store.put(object_id, content.deflate())


def finish(superlink: SuperLink, run: int) -> None:
    """Do what Flower does when a server app has come to its end."""
    state = superlink._state
    (found,) = state.get_run_info(run_ids=[run])
    assert found.primary_task_id is not None
    assert state.claim_task(found.primary_task_id) is not None
    assert state.activate_task(found.primary_task_id)
    assert state.finish_task(found.primary_task_id, SubStatus.COMPLETED, "")


def database_of(host: Host) -> Path:
    return host.config.server.state / "superlink" / "superlink.db"


def held(host: Host) -> dict[str, int]:
    """How many rows the tables of messages have."""
    tables = ("message_ins", "message_res", "objects", "run_objects")
    with closing(sqlite3.connect(database_of(host))) as database:
        return {
            each: database.execute(f"SELECT count(*) FROM {each}").fetchone()[0]  # noqa: S608
            for each in tables
        }


def size(host: Host) -> int:
    """Bytes of the database, once its log of writes is in it."""
    with closing(sqlite3.connect(database_of(host))) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return database_of(host).stat().st_size


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        threading.Event().wait(0.02)


NOTHING = {"message_ins": 0, "message_res": 0, "objects": 0, "run_objects": 0}


def test_a_run_that_is_over_leaves_no_message_behind(host: Host) -> None:
    run = start_run(host.superlink)
    ask_a_site_that_is_away(host, host.superlink, run, 1)
    finish(host.superlink, run)
    assert held(host)["objects"] > 0
    host.superlink.drop_messages(run)
    assert held(host) == NOTHING


def test_the_database_is_as_large_after_many_runs_as_after_two(host: Host) -> None:
    sizes = []
    for number in range(12):
        run = start_run(host.superlink)
        for each in range(4):
            ask_a_site_that_is_away(host, host.superlink, run, 4 * number + each)
        finish(host.superlink, run)
        host.superlink.drop_messages(run)
        sizes.append(size(host))
    assert sizes[1] > 4 * MODEL
    # A run itself stays: a few hundred bytes.
    assert sizes[-1] - sizes[1] < MODEL / 2


def test_the_queue_drops_the_messages_of_a_run_that_ended(host: Host) -> None:
    signer = make_signer("scientist")
    run = host.runs.create(sign_job(make_job(), signer, purpose="train", nonce=new_nonce()))
    queue = Queue(host.config, host.superlink, host.runs)
    queue.start()
    try:
        until(lambda: any(each["event"] == "attempt" for each in run.events()))
        (attempt,) = (each for each in run.events() if each["event"] == "attempt")
        flower_run = int(str(attempt["flower_run"]))
        ask_a_site_that_is_away(host, host.superlink, flower_run, 1)
        finish(host.superlink, flower_run)
        until(lambda: held(host) == NOTHING)
    finally:
        queue.stop()


def test_a_server_that_was_killed_when_a_run_ended_drops_its_messages_later(host: Host) -> None:
    over, under_way = start_run(host.superlink), start_run(host.superlink)
    ask_a_site_that_is_away(host, host.superlink, over, 1)
    finish(host.superlink, over)
    before = held(host)
    ask_a_site_that_is_away(host, host.superlink, under_way, 2)
    assert held(host)["objects"] == 2 * before["objects"]
    close_superlink(open_superlink(host.config))
    assert held(host) == before


def filled(path: Path, *, megabytes: int, left: int) -> None:
    """A database that held so many megabytes, and holds so many."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE models (content BLOB)")
        for _ in range(megabytes):
            database.execute("INSERT INTO models VALUES (zeroblob(1048576))")
        database.execute("DELETE FROM models WHERE rowid > ?", (left,))


def test_a_file_that_is_mostly_empty_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "superlink.db"
    filled(path, megabytes=100, left=2)
    assert path.stat().st_size > 100 * 1024**2
    compact(path)
    assert path.stat().st_size < 3 * 1024**2
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM models").fetchone() == (2,)


@pytest.mark.parametrize(("megabytes", "left"), [(100, 60), (50, 2)], ids=["in use", "small"])
def test_a_file_whose_room_will_be_used_again_is_left_alone(
    tmp_path: Path, megabytes: int, left: int
) -> None:
    path = tmp_path / "superlink.db"
    filled(path, megabytes=megabytes, left=left)
    before = path.stat().st_size
    compact(path)
    assert path.stat().st_size == before


def test_what_cannot_be_compacted_is_left_to_whoever_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "superlink.db"
    compact(path)
    assert not path.exists()
    path.write_bytes(b"no database" * 1000)
    compact(path)
    assert path.read_bytes() == b"no database" * 1000
