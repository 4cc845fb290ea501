"""The server's state in a directory and in a real PostgreSQL: one behaviour, tried on both."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from postgres import Cluster, postgres_cluster

from sordino_protocols.errors import IntegrityError, UnreachableError
from sordino_server.database_storage import Database, DatabaseStorage
from sordino_server.storage import DirectoryStorage, Storage

Opener = Callable[[], Storage]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres_cluster() as cluster:
        yield cluster


@pytest.fixture
def databases() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["directory", "database"])
def opener(request: pytest.FixtureRequest, tmp_path: Path, databases: ExitStack) -> Opener:
    """Opens one storage again and again, as each process does."""
    if request.param == "directory":
        return lambda: DirectoryStorage(tmp_path / "state")
    url = request.getfixturevalue("cluster").new_database()

    def opened() -> Storage:
        database = Database(url)
        databases.callback(database.close)
        database.open()
        return DatabaseStorage(database)

    return opened


@pytest.fixture
def database(cluster: Cluster, databases: ExitStack) -> Database:
    database = Database(cluster.new_database())
    databases.callback(database.close)
    database.open()
    return database


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 100, b"a" * (2 * 16 * 1024 * 1024 + 1)])
def test_what_was_written_is_there_for_whoever_opens_it(opener: Opener, content: bytes) -> None:
    opener().within("run-1").write("model", b"an older one, which is longer than nothing")
    opener().within("run-1").write("model", content)
    assert opener().within("run-1").read("model") == content
    assert opener().read("run-1/model") == content


def test_what_is_not_there_is_nothing(opener: Opener) -> None:
    storage = opener()
    assert storage.read("model") is None
    assert storage.stamp("model") is None
    assert storage.names("readings") == []
    assert storage.read_after("events", 0) == b""
    assert storage.read_each("manifest.json") == {}
    storage.rename("model", "other")
    assert storage.read("other") is None


def test_folders_do_not_see_each_other(opener: Opener) -> None:
    storage = opener()
    # Names with what a database's patterns give a meaning to, and one that begins as another.
    for folder in ("run-1", "run-10", "run_1", "run%", "runs/run-1"):
        storage.within(folder).write("sealed/a", folder.encode())
        storage.within(folder).append("events", folder.encode() + b"\n")
    for folder in ("run-1", "run-10", "run_1", "run%", "runs/run-1"):
        assert storage.within(folder).read("sealed/a") == folder.encode()
        assert storage.within(folder).names("sealed") == ["a"]
        assert storage.within(folder).read_after("events", 0) == folder.encode() + b"\n"
        assert storage.within(folder).folder == folder.rpartition("/")[2]


def test_the_file_of_every_folder_is_read_at_once(opener: Opener) -> None:
    storage = opener()
    for number in range(3):
        storage.write(f"run-{number}/manifest.json", b"%d" % number)
    storage.write("run-9/model", b"no manifest")
    storage.write("run-0/deeper/manifest.json", b"of no run")
    found = storage.read_each("manifest.json")
    assert dict(found) == {"run-0": b"0", "run-1": b"1", "run-2": b"2"}


def test_a_stamp_tells_of_every_change(opener: Opener) -> None:
    storage = opener()
    storage.write("audit.json", b"1")
    first = storage.stamp("audit.json")
    assert first is not None
    assert opener().stamp("audit.json") == first
    storage.write("audit.json", b"2")
    assert storage.stamp("audit.json") != first


def test_a_file_is_renamed_over_another(opener: Opener) -> None:
    storage = opener()
    storage.write("a.json", b"new")
    storage.write("a.forgotten.json", b"older")
    storage.rename("a.json", "a.forgotten.json")
    assert storage.read("a.json") is None
    assert storage.read("a.forgotten.json") == b"new"


def test_a_log_can_be_followed(opener: Opener) -> None:
    storage, reader = opener(), opener()
    lines = [b"one\n", b"two, which is longer\n", b"three\n"]
    offset = 0
    seen: list[bytes] = []
    for line in lines:
        storage.append("events", line)
        news = reader.read_after("events", offset)
        offset += len(news)
        seen.append(news)
    assert seen == lines
    assert reader.read_after("events", 0) == b"".join(lines)
    assert reader.read_after("events", offset) == b""


def test_lines_of_many_writers_are_all_there(opener: Opener) -> None:
    def write(number: int) -> None:
        storage = opener()
        for count in range(20):
            storage.append("events", b"%d-%d\n" % (number, count))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = opener().read_after("events", 0).split()
    assert sorted(lines) == sorted(b"%d-%d" % (a, b) for a in range(4) for b in range(20))
    for number in range(4):
        own = [line for line in lines if line.startswith(b"%d-" % number)]
        assert own == [b"%d-%d" % (number, count) for count in range(20)]


def test_one_at_a_time_has_a_lock(opener: Opener) -> None:
    has_it = threading.Event()

    def second() -> None:
        with opener().locked("run-1/lock"):
            has_it.set()

    thread = threading.Thread(target=second)
    with opener().locked("run-1/lock"):
        # Another lock is another lock.
        with opener().locked("run-2/lock"):
            pass
        thread.start()
        assert not has_it.wait(0.3)
    assert has_it.wait(60)
    thread.join()


def test_who_has_a_lock_may_take_another_and_write(opener: Opener) -> None:
    storage = opener()
    with storage.locked("run-1/lock"):
        for number in range(2):
            with storage.within("heads").locked("lock"):
                storage.write("heads/a.json", b"%d" % number)
            # That one is free again, and the first is not.
            with opener().locked("heads/lock"):
                pass
        storage.append("run-1/events", b"line\n")
    assert opener().read("heads/a.json") == b"1"
    with opener().locked("run-1/lock"):
        assert opener().read_after("run-1/events", 0) == b"line\n"


def test_text_for_people_grows_line_by_line(opener: Opener) -> None:
    for word in ("first", "second"):
        with opener().open_text("run-1/log.jsonl") as stream:
            print(f"{word} é", file=stream)
            print("unfinished", end="", file=stream)
    text = opener().read_after("run-1/log.jsonl", 0).decode()
    assert text.splitlines()[0] == "first é"
    assert "second é\n" in text


# ------------------------------------------------------------------ what only a database can do


def test_a_broken_connection_is_told_and_then_made_anew(
    database: Database, cluster: Cluster
) -> None:
    storage = DatabaseStorage(database)
    with storage.locked("lock"):
        storage.append("events", b"one\n")
        _break_connections(cluster, database)
        with pytest.raises(UnreachableError, match="did not do what it was asked"):
            storage.append("events", b"two\n")
        storage.append("events", b"three\n")
    assert storage.read_after("events", 0) == b"one\nthree\n"


def test_who_lost_a_lock_to_another_writes_no_more(
    database: Database, cluster: Cluster, databases: ExitStack
) -> None:
    storage = DatabaseStorage(database)
    other = Database(database.url)
    databases.callback(other.close)
    with storage.locked("lock"):
        _break_connections(cluster, database)
        with pytest.raises(UnreachableError):
            storage.write("checkpoint", b"of the first")
        with other.locked("lock"):
            DatabaseStorage(other).write("checkpoint", b"of the second")
            with pytest.raises(IntegrityError, match="another process has the lock"):
                storage.write("checkpoint", b"of the first")
    assert storage.read("checkpoint") == b"of the second"


def test_a_server_that_forgets_commits_is_refused(cluster: Cluster) -> None:
    url = cluster.new_database()
    cluster.execute(
        "postgres", "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()"
    )
    database = Database(url)
    try:
        with pytest.raises(IntegrityError, match="full_page_writes = off"):
            database.open()
    finally:
        database.close()
        cluster.execute(
            "postgres", "ALTER SYSTEM RESET full_page_writes", "SELECT pg_reload_conf()"
        )


def test_a_password_is_in_no_error(cluster: Cluster) -> None:
    url = cluster.url("no_such_database").set(password="hunter2hunter2")
    with pytest.raises(UnreachableError) as caught:
        Database(url).open()
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in DatabaseStorage(Database(url)).describe("model")


def _break_connections(cluster: Cluster, database: Database) -> None:
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    terminate = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"  # noqa: S608
    cluster.execute(str(database.url.database), terminate)
