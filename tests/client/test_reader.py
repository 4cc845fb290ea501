"""A vault that reads a database or an object store has no network, and says why when it cannot."""

import json
import os
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from object_store import BUCKET, SECRET, object_server
from one_site import DATASET, OneSite
from postgres import Cluster
from self_tested import provide_record
from wards import csv_text, read, write_declaration, write_private

from sordino_client.data.connectors import load_table
from sordino_client.data.remote_tables import RemoteTables
from sordino_client.reader import Reader, start_reader
from sordino_client.vault_client import VaultClient
from sordino_protocols.errors import ExitCode, InputError, UnreachableError

WAIT_SECONDS = 120.0
CONNECT_SECONDS = 60.0
"""After which a reader gives up by itself."""
PASSWORD = "hunter2"
LOCAL = 'kind = "csv"\npath = "records.csv"'
SQL = 'kind = "sql"\nurl_file = "db.url"\ntable = "records"'
S3 = f'kind = "csv"\nurl = "s3://{BUCKET}/records.csv"\noptions_file = "s3.options"'


@contextmanager
def silent_server() -> Iterator[socket.socket]:
    """Somebody who listens and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WAIT_SECONDS)
        yield listening


def port_of(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])


@contextmanager
def relay(cluster: Cluster) -> Iterator[int]:
    """A port that leads to the cluster, which has a Unix socket alone."""

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as inner:
                inner.connect(str(cluster.sockets / ".s.PGSQL.5432"))
                back = threading.Thread(target=pump, args=(inner, self.request), daemon=True)
                back.start()
                pump(self.request, inner)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as server:
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            serving.join()


def pump(here: socket.socket, there: socket.socket) -> None:
    try:
        while content := here.recv(2**16):
            there.sendall(content)
        there.shutdown(socket.SHUT_WR)
    except OSError:
        pass


# --- the reader and what it sends -----------------------------------------------------------------


@contextmanager
def reader_of(directory: Path) -> Iterator[tuple[Reader, RemoteTables]]:
    reader = start_reader(directory)
    assert reader is not None
    try:
        yield reader, RemoteTables(reader, stop=threading.Event())
    finally:
        reader.end()


def test_sources_on_this_machine_need_no_reader(tmp_path: Path) -> None:
    write_private(tmp_path / "db.url", f"sqlite:///{tmp_path}/wards.db")
    write_declaration(tmp_path, LOCAL, name="one")
    write_declaration(tmp_path, SQL, name="two")
    write_declaration(tmp_path, 'kind = "parquet"\nurl = "file:///records.parquet"', name="three")
    (tmp_path / "broken.toml").write_text("[source")
    assert start_reader(tmp_path) is None


def test_a_reader_sends_what_reading_here_gives(tmp_path: Path) -> None:
    with object_server() as server:
        server.put("records.csv", csv_text().encode())
        server.put("other.csv", csv_text().encode())
        server.write_options(tmp_path / "s3.options")
        where = '\nwhere = [{column = "consent", in = ["yes"]}]'
        files = {
            tmp_path / f"{name}.toml": read(tmp_path, source, name=name)
            for name, source in (("one", S3), ("two", S3.replace("records", "other") + where))
        }
        write_declaration(tmp_path, LOCAL, name="local")
        with reader_of(tmp_path) as (reader, remote):
            assert reader.paths == tuple(files)
            assert not remote.has(tmp_path / "local.toml")
            for path, file in files.items():
                there, here = load_table(file, cells=remote.cells(path, file)), load_table(file)
                assert there.features.tobytes() == here.features.tobytes()
                assert there.entities is not None
            remote.close()
            assert reader.process.returncode is not None


def test_a_reader_that_cannot_read_says_why(tmp_path: Path) -> None:
    write_private(tmp_path / "db.url", f"postgresql://me:{PASSWORD}@127.0.0.1:1/x")
    file, path = read(tmp_path, SQL), tmp_path / "wards.toml"
    with (
        reader_of(tmp_path) as (reader, remote),
        pytest.raises(InputError, match="the database cannot be read: OperationalError") as caught,
    ):
        load_table(file, cells=remote.cells(path, file))
    assert PASSWORD not in str(caught.value)
    assert reader.process.returncode is not None


def test_a_reader_that_died_is_an_error(tmp_path: Path) -> None:
    write_private(tmp_path / "db.url", "postgresql://db.invalid/x")
    file, path = read(tmp_path, SQL), tmp_path / "wards.toml"
    with reader_of(tmp_path) as (reader, remote):
        reader.process.kill()
        with pytest.raises(InputError, match="ended before it had read everything"):
            load_table(file, cells=remote.cells(path, file))


def test_a_source_that_hangs_is_an_error_and_the_reader_is_gone(tmp_path: Path) -> None:
    with silent_server() as silent:
        write_private(tmp_path / "db.url", f"postgresql://127.0.0.1:{port_of(silent)}/x")
        source, path = SQL + "\ntimeout_seconds = 0.5", tmp_path / "wards.toml"
        file = read(tmp_path, source)
        with (
            reader_of(tmp_path) as (reader, remote),
            pytest.raises(InputError, match=r"nothing came for 0\.5 s; see source\.timeout_secon"),
        ):
            load_table(file, cells=remote.cells(path, file))
        assert reader.process.returncode == -signal.SIGKILL


def test_a_reader_does_not_outlive_its_vault(tmp_path: Path) -> None:
    with silent_server() as silent:
        write_private(tmp_path / "db.url", f"postgresql://127.0.0.1:{port_of(silent)}/x")
        write_declaration(tmp_path, SQL)
        code = (
            "import os, sys; from pathlib import Path; from sordino_client.reader import *\n"
            "reader = start_reader(Path()); reader.ask_for(reader.paths[0])\n"
            "print(reader.process.pid, flush=True); sys.stdin.read(); os._exit(0)"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        watched = os.pidfd_open(child)
        connection, _ = silent.accept()  # it waits for an answer, and for nothing else
        parent.communicate()
        # A descriptor of a process is readable when the process has ended.
        assert select.select([watched], [], [], CONNECT_SECONDS / 2)[0]
        os.close(watched)
        connection.close()


# --- the vault ------------------------------------------------------------------------------------


class Vault:
    """A vault process on a site's directory."""

    def __init__(self, site: OneSite) -> None:
        self.site = site
        self.log = site.directory / "vault.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sordino_client.vault_process", "site.toml"],
                cwd=site.directory,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def status(self) -> dict[str, object]:
        """What it says of itself, as soon as it serves."""
        ended = threading.Event()

        def watch() -> None:
            self.process.wait()
            ended.set()

        threading.Thread(target=watch, daemon=True).start()
        with VaultClient(self.site.config.site.socket) as client:
            try:
                client.answer(b"anything", expires_at=time.time() + WAIT_SECONDS, stop=ended)
            except UnreachableError:
                raise AssertionError(self.log.read_text()) from None
            return dict(json.loads(client.status() or "{}"))

    def metrics(self) -> str:
        with VaultClient(self.site.config.site.socket) as client:
            return client.metrics() or ""

    def children(self) -> list[int]:
        """Processes that it has started and that have not been waited for."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(child) for task in tasks for child in task.read_text().split()]

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(WAIT_SECONDS)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[OneSite]:
    made = OneSite(tmp_path)
    made.prepare()
    made.write_policy()
    text = (tmp_path / "site.toml").read_text()
    made_socket = Path("/tmp") / f"sordino-reader-{os.getpid()}.sock"  # noqa: S108 (short)
    (tmp_path / "site.toml").write_text(text.replace('"v.sock"', f'"{made_socket}"'))
    provide_record(made.config)
    yield made
    made_socket.unlink(missing_ok=True)


def lay_in(site: OneSite, source: str, *, timeout_seconds: float = 60.0) -> None:
    """Declare another source for the site's records, which are no longer on this machine."""
    assert LOCAL in site.schema
    site.schema = site.schema.replace(LOCAL, f"{source}\ntimeout_seconds = {timeout_seconds}")
    site.write_schema()
    (site.directory / "datasets.d" / "records.csv").unlink()


def network_of(process: int) -> Path:
    return Path(f"/proc/{process}/ns/net").readlink()


def assert_serves_without_a_network(vault: Vault) -> None:
    try:
        status = vault.status()
        assert DATASET in json.dumps(status["datasets"])
        assert vault.children() == []
        is_elsewhere = network_of(vault.process.pid) != network_of(os.getpid())
        assert status["network_cut_off"] is is_elsewhere
        assert is_elsewhere or os.geteuid() != 0
        told, log = json.dumps(status) + vault.metrics(), vault.log.read_text()
        # Words that nobody declared are among the records: only the site's own log may say so.
        assert "broke_declaration" in log
        assert "broke_declaration" not in told
        said = told + log
        assert PASSWORD not in said
        assert SECRET not in said
    finally:
        vault.end()
    assert vault.process.returncode == 0


@pytest.mark.system
def test_a_vault_with_records_in_postgresql_serves_without_a_network(
    site: OneSite, postgres: Cluster
) -> None:
    records = pd.read_csv(site.directory / "datasets.d" / "records.csv")
    url = postgres.new_database()
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    records.to_sql("records", engine, index=False)
    with relay(postgres) as port:
        over_tcp = sa.URL.create(
            "postgresql",
            username=url.username,
            password=PASSWORD,
            host="127.0.0.1",
            port=port,
            database=url.database,
        )
        text = over_tcp.render_as_string(hide_password=False)
        write_private(site.directory / "datasets.d" / "db.url", text)
        lay_in(site, SQL)
        assert_serves_without_a_network(Vault(site))


@pytest.mark.system
def test_a_vault_with_records_in_an_object_store_serves_without_a_network(site: OneSite) -> None:
    with object_server() as server:
        server.put("records.csv", (site.directory / "datasets.d" / "records.csv").read_bytes())
        server.write_options(site.directory / "datasets.d" / "s3.options")
        lay_in(site, S3)
        assert_serves_without_a_network(Vault(site))


@pytest.mark.system
def test_a_vault_whose_reader_is_killed_says_so_and_serves_nothing(site: OneSite) -> None:
    with silent_server() as silent:
        text = f"postgresql://me:{PASSWORD}@127.0.0.1:{port_of(silent)}/x"
        write_private(site.directory / "datasets.d" / "db.url", text)
        lay_in(site, SQL)
        vault = Vault(site)
        connection, _ = silent.accept()
        (reader,) = vault.children()
        os.kill(reader, signal.SIGKILL)
        assert vault.process.wait(WAIT_SECONDS) == ExitCode.USAGE
        connection.close()
    log = vault.log.read_text()
    assert "heart.toml: " in log
    assert "the reader process ended before it had read everything" in log
    assert "ready" not in log
    assert PASSWORD not in log
    assert "Traceback" not in log


@pytest.mark.system
def test_a_vault_whose_database_hangs_says_so_and_leaves_nothing_behind(site: OneSite) -> None:
    with silent_server() as silent:
        text = f"postgresql://me:{PASSWORD}@127.0.0.1:{port_of(silent)}/x"
        write_private(site.directory / "datasets.d" / "db.url", text)
        lay_in(site, SQL, timeout_seconds=0.5)
        vault = Vault(site)
        assert vault.process.wait(WAIT_SECONDS) == ExitCode.USAGE
    assert "nothing came for 0.5 s; see source.timeout_seconds" in vault.log.read_text()
    assert PASSWORD not in vault.log.read_text()
