"""A real PostgreSQL for tests: a cluster of its own on a Unix socket, gone when the tests are.

`initdb` refuses to run as root, so a test that runs as root hands the cluster to an ordinary user.
Nothing about durability is turned off: a ledger refuses a server that does not flush its commits.
"""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

_MISSING = "needs the system package postgresql"
_OWNERS = ("postgres", "nobody")
_SUPERUSER = "sordino"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running PostgreSQL.

    Attributes:
        sockets: the directory with its Unix socket; it listens nowhere else.
    """

    sockets: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def url(self, database: str) -> sa.URL:
        """Where one of its databases is. Whoever reaches the socket may do anything."""
        return sa.URL.create(
            "postgresql+psycopg",
            username=_SUPERUSER,
            database=database,
            query={"host": str(self.sockets)},
        )

    def new_database(self) -> sa.URL:
        """An empty database that no other test has."""
        name = f"test_{next(self._numbers)}"
        self.execute("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def execute(self, database: str, *statements: str) -> None:
        """Run statements one by one, each on its own."""
        engine = sa.create_engine(self.url(database), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                for each in statements:
                    connection.execute(sa.text(each))
        finally:
            engine.dispose()


@contextmanager
def postgres_cluster() -> Iterator[Cluster]:
    """A fresh cluster; stopped and removed at the end. Skips the test where there is none."""
    programs = _programs()
    if programs is None:
        pytest.skip(_MISSING)
    owner = _owner()
    # Not below pytest's directory: a socket's path has at most 107 bytes, and others may not
    # traverse that one.
    directory = Path(tempfile.mkdtemp(prefix="sordino-postgres-"))
    try:
        if owner is not None:
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        data, log = directory / "data", directory / "log"
        initdb: list[str | Path] = [
            programs / "initdb",
            "-D",
            data,
            "-A",
            "trust",
            "-U",
            _SUPERUSER,
            "--no-sync",
        ]
        _run([*initdb, "--encoding=UTF8", "--locale=C"], directory, owner)
        control: list[str | Path] = [programs / "pg_ctl", "-D", data, "-w", "-s"]
        settings = f"-k {directory} -c listen_addresses='' -c max_connections=50"
        _run([*control, "-l", log, "-o", settings, "start"], directory, owner)
        try:
            yield Cluster(directory)
        finally:
            _run([*control, "-m", "immediate", "stop"], directory, owner)
    finally:
        shutil.rmtree(directory)


def _programs() -> Path | None:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda each: float(each.parts[-3])
    )
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).resolve().parent


def _owner() -> pwd.struct_passwd | None:
    """Who runs the cluster, if not whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    known = {each.pw_name: each for each in pwd.getpwall()}
    return next(known[name] for name in _OWNERS if name in known)


def _run(command: list[str | Path], directory: Path, owner: pwd.struct_passwd | None) -> None:
    done = subprocess.run(
        command,
        # The server keeps what it inherits: no pipe, or whoever reads it would wait for the server.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        cwd=directory,
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
        user=None if owner is None else owner.pw_uid,
        group=None if owner is None else owner.pw_gid,
        extra_groups=None if owner is None else [],
        check=False,
    )
    if done.returncode:
        log = directory / "log"
        said = log.read_text() if log.exists() else ""
        raise RuntimeError(f"{Path(command[0]).name} failed with {done.returncode}: {said}")
