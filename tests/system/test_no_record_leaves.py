"""Records with marks in them, in real processes: no mark is found anywhere but in the records.

Every path that a value could take is walked: a run that works, jobs that are refused, records that
break their declaration in a file and in a database, a policy that cannot be read. Then everything
that any process wrote or answered is searched, for the marks as text and as the bytes of numbers.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from one_site import CANARY_NUMBER
from one_vault import vault_site
from real_federation import Running, get, make_job, run_sites
from record_marks import WORD, break_records, in_parquet, leaks, marked

from sordino_client.vault_client import VaultClient
from sordino_protocols.errors import SordinoError
from sordino_protocols.job import Job

pytestmark = pytest.mark.system

SITE, PARQUET_SITE = "cleveland", "va"
FIELDS = {"ts", "level", "event", "component"}


def everything_written(running: Running) -> Iterator[tuple[str, bytes]]:
    """Every file of every host but the records themselves."""
    root = running.federation.layout.root
    for path in sorted(root.rglob("*")):
        if path.is_file() and "datasets.d" not in path.parts:
            yield str(path.relative_to(root)), path.read_bytes()


def everything_answered(running: Running, run_id: str) -> Iterator[tuple[str, bytes]]:
    """What each process says to whoever asks it."""
    server, site = running.server_config, running.federation.layout.site_config(SITE)
    assert server.metrics is not None
    assert server.page is not None
    assert site.link.metrics is not None
    pages = [(server.page.address, path) for path in ("/", f"/runs/{run_id}")]
    for address in (server.metrics.address, site.link.metrics):
        pages += [(address, path) for path in ("/metrics", "/livez", "/readyz")]
    for address, path in pages:
        yield f"{address}{path}", answer_of(address, path)
    with VaultClient(site.site.socket) as vault:
        yield "status", (vault.status() or "").encode()
        yield "vault's metrics", (vault.metrics() or "").encode()
    yield "shown", json.dumps(running.connection.show(run_id)).encode()


def answer_of(address: str, path: str) -> bytes:
    """What is answered, whatever the status: a host that is busy may well not be ready."""
    try:
        return get(address, path).encode()
    except urllib.error.HTTPError as error:
        return error.read()


def said_by(path: Path) -> list[dict[str, object]]:
    """The lines of a log, each of which has what every line has to have."""
    lines: list[dict[str, object]] = []
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            pytest.fail(f"{path}: not JSON: {text!r}")
        assert line.keys() >= FIELDS, f"{path}: {text}"
        lines.append(line)
    return lines


def of_another_dataset(job: Job) -> Job:
    """A job that no site can do."""
    section = job.file.job.model_copy(update={"dataset": "lung"})
    return job.model_copy(update={"file": job.file.model_copy(update={"job": section})})


def say_everything(running: Running) -> None:
    """Have every process log as much as it can."""
    layout = running.federation.layout
    for path in (layout.server / "server.toml", layout.site(SITE) / "site.toml"):
        path.write_text(path.read_text() + '\n[log]\nlevel = "debug"\n')


def test_no_value_of_a_record_is_in_anything_that_was_written_or_answered(tmp_path: Path) -> None:
    found: dict[str, list[bytes]] = {}
    sites = [marked(tmp_path / "data", SITE), in_parquet(marked(tmp_path / "data", PARQUET_SITE))]
    with run_sites(tmp_path, sites) as running:
        names = list(running.children)
        connection, layout = running.connection, running.federation.layout
        say_everything(running)
        for child in running.children.values():
            os.kill(child.pid, signal.SIGHUP)
        job = make_job(rounds=2, quorum=2)
        run_id = connection.submit(job)
        assert list(connection.watch(run_id))[-1]["state"] == "done", connection.show(run_id)
        refused = connection.submit(of_another_dataset(job))
        assert list(connection.watch(refused))[-1]["state"] == "failed"
        with pytest.raises(SordinoError):
            connection.fetch(refused, "statement.json")
        for name, content in everything_answered(running, run_id):
            found[name] = leaks(content)
        _break_the_records(running)
        for name, content in everything_written(running):
            found[name] = leaks(content)
        said = {name: said_by(layout.logs / f"{name}.log") for name in names}
    # Whoever reads the logs by machine can: each line of each process.
    for path in [*layout.logs.glob("*.log"), *(layout.server / "state").rglob("log.jsonl")]:
        said_by(path)
    said_by(layout.server / "state" / "superlink" / "superexec.log")
    # The search looked where it had to look.
    for site in (SITE, PARQUET_SITE):
        assert "column 'age'" in str(said[f"{site}-vault"][-1]), "the broken column is not named"
        assert "reloaded" in {line["event"] for line in said[f"{site}-link"]}
    assert {line["event"] for line in said["server"]} >= {"reloaded", "run_ended"}
    assert all("dur_s" in line for line in said["server"] if line["event"] == "run_ended")
    assert any("superlink.db" in name for name in found)
    assert any("outbox" in name for name in found)
    assert any("audit.log" in name for name in found)
    assert {name: each for name, each in found.items() if each} == {}


def _break_the_records(running: Running) -> None:
    """Start the vaults on records that are not what was declared: they say so, and not them."""
    layout, children = running.federation.layout, []
    for site in running.federation.sites:
        running.kill(f"{site.name}-vault")
        break_records(layout.site(site.name) / "datasets.d" / site.records.name)
        children.append(running.federation.start_vault(running.supervisor, site.name))
    for child in children:
        assert running.supervisor.wait_ended(child, timeout_seconds=240) != 0
    link = layout.site_config(SITE).link.metrics
    assert link is not None
    with pytest.raises(urllib.error.HTTPError, match="503"):
        get(link, "/readyz")


SQL = """[source]
kind = "sql"
url_file = "../records.url"
query = "select * from patients"
"""


def test_a_database_whose_records_break_the_declaration_is_not_quoted(tmp_path: Path) -> None:
    with vault_site(tmp_path) as site:
        declaration = site.directory / "datasets.d" / "heart.toml"
        text = declaration.read_text().replace(
            '[source]\nkind = "csv"\npath = "records.csv"\n', SQL
        )
        assert "sql" in text
        declaration.write_text(text)
        database = site.directory / "patients.db"
        header, *rows = (site.directory / "datasets.d" / "records.csv").read_text().split()
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(f"create table patients ({header})")
            for row in rows:
                values = row.replace(CANARY_NUMBER, WORD).split(",")
                connection.execute("insert into patients values (?, ?, ?, ?, ?)", values)
        url = site.directory / "records.url"
        url.touch(mode=0o600)
        url.write_text(f"sqlite:///{database}")
        done = subprocess.run(
            [sys.executable, "-m", "sordino_client.vault_process", "site.toml"],
            cwd=site.directory,
            capture_output=True,
            timeout=300,
            check=False,
        )
        state = [path.read_bytes() for path in site.config.site.state.rglob("*") if path.is_file()]
    assert leaks(database.read_bytes())
    assert done.returncode == 2, done.stderr
    assert b"chol" in done.stderr
    assert not leaks(b"".join([done.stdout, done.stderr, *state]))
