"""A run on disk: manifest, log of events, checkpoints, results. Everything a resume needs.

The daemon, the server app and whoever watches share nothing but this directory. What must stay
true: a file appears whole or not at all, a checkpoint names the last round that it holds, and the
state is the last one in the log, which only grows.
"""

import datetime as dt
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from sordino_protocols.errors import IntegrityError, NotFoundError
from sordino_protocols.job import Job, SignedJob, read_job
from sordino_protocols.models import FloatVector
from sordino_protocols.rounds import RunEvent, RunState, advance_run
from sordino_protocols.signing import canonical_json
from sordino_server.aggregation import ServerState

Purpose = Literal["train", "price"]
Arrays = Mapping[str, npt.NDArray[np.float32]]

_MANIFEST = "manifest.json"
_EVENTS = "events.jsonl"
_CHECKPOINT = "checkpoint.safetensors"
MODEL = "model.safetensors"
STATEMENT = "statement.json"
QUOTES = "quotes.json"
ADMISSIONS = "admissions.json"
EVALUATION = "evaluation.json"
ARTIFACTS = frozenset({MODEL, STATEMENT, QUOTES})


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a run is, fixed when it was queued."""

    run_id: str
    purpose: Purpose
    job: SignedJob
    created: str


class RunDirectory:
    """One run's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def run_id(self) -> str:
        """The run's name, everywhere."""
        return self.path.name

    def manifest(self) -> Manifest:
        """What the run is.

        Raises:
            IntegrityError: the manifest cannot be read.
        """
        try:
            raw = json.loads((self.path / _MANIFEST).read_bytes())
            signed = SignedJob(
                raw["job"].encode("ascii"), raw["submitter"], bytes.fromhex(raw["signature"])
            )
            return Manifest(raw["run_id"], raw["purpose"], signed, raw["created"])
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(f"{self.path}: the run's manifest cannot be read") from None

    def job(self) -> Job:
        """The run's job."""
        return read_job(self.manifest().job.body)

    # ------------------------------------------------------------------ the log

    def record(self, event: str, **facts: object) -> None:
        """Append one event to the log; on disk when this returns."""
        line = canonical_json({"at": _now(), "event": event, **facts}) + b"\n"
        descriptor = os.open(
            self.path / _EVENTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def events(self) -> Iterator[dict[str, object]]:
        """The log from its beginning; a line that is still being written is left out."""
        try:
            content = (self.path / _EVENTS).read_bytes()
        except FileNotFoundError:
            return
        for line in content.split(b"\n")[:-1]:
            yield json.loads(line)

    def state(self) -> RunState:
        """Where the run is."""
        state = RunState.QUEUED
        for event in self.events():
            if event["event"] == "state":
                state = RunState(str(event["state"]))
        return state

    def advance(self, event: RunEvent, **facts: object) -> RunState:
        """Move the run to its next state, and log it."""
        state = advance_run(self.state(), event)
        self.record("state", state=state.value, **facts)
        return state

    # ------------------------------------------------------------------ rounds

    def save_readings(self, number: int, readings: Arrays) -> None:
        """Keep what the sites' lanes read in a round, for the audit: site to float32 [lanes]."""
        directory = self.path / "readings"
        directory.mkdir(exist_ok=True)
        write_whole(directory / f"{number:06d}.safetensors", save(dict(readings)))

    def readings(self) -> Iterator[Arrays]:
        """The lanes' readings, round by round."""
        for path in sorted((self.path / "readings").glob("*.safetensors")):
            yield load(path.read_bytes())

    def save_checkpoint(self, state: ServerState) -> None:
        """Keep the server's state after a round; the newest replaces the one before."""
        counts = np.array([state.average_count, state.rounds_done], dtype=np.int64)
        arrays = {
            "weights": state.weights,
            "velocity": state.velocity,
            "average": state.average,
            "counts": counts,
        }
        write_whole(self.path / _CHECKPOINT, save(arrays))

    def checkpoint(self) -> ServerState | None:
        """The server's state after the last round that was completed, if there was one."""
        path = self.path / _CHECKPOINT
        if not path.exists():
            return None
        arrays = load(path.read_bytes())
        average_count, rounds_done = (int(count) for count in arrays["counts"])
        return ServerState(
            arrays["weights"], arrays["velocity"], arrays["average"], average_count, rounds_done
        )

    # ------------------------------------------------------------------ results

    def save_model(self, weights: FloatVector, *, job_digest: str) -> None:
        """Write the released model: one flat float64 vector and what it belongs to."""
        metadata = {"format": "sordino/flat/1", "job_digest": job_digest, "run_id": self.run_id}
        write_whole(self.path / MODEL, save({"weights": weights}, metadata=metadata))

    def model(self) -> FloatVector:
        """The released model's flat weights.

        Raises:
            NotFoundError: the run has not finished.
        """
        path = self.path / MODEL
        if not path.exists():
            raise NotFoundError(f"run {self.run_id} has no model yet")
        return load(path.read_bytes())["weights"]

    def save_json(self, name: str, content: object) -> None:
        """Write a result as indented JSON."""
        write_whole(self.path / name, json.dumps(content, indent=2, sort_keys=True).encode())

    def read_json(self, name: str) -> dict[str, object]:
        """Read a result.

        Raises:
            NotFoundError: the run has not got that far.
        """
        path = self.path / name
        if not path.exists():
            raise NotFoundError(f"run {self.run_id} has no {name} yet")
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise IntegrityError(f"{path}: not a JSON object")
        return content

    def artifact(self, name: str) -> bytes:
        """The content of a file that a run leaves for others.

        Raises:
            NotFoundError: it is not one of `ARTIFACTS`, or the run has not got that far.
        """
        path = self.path / name
        if name not in ARTIFACTS or not path.exists():
            raise NotFoundError(f"run {self.run_id} has no {name!r}")
        return path.read_bytes()


class Runs:
    """The directory of all runs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    def create(self, job: SignedJob, purpose: Purpose) -> RunDirectory:
        """Queue a run; it is there after a crash if this returned."""
        stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%d-%H%M%S")
        run_id = f"{purpose}-{stamp}-{secrets.token_hex(4)}"
        path = self._directory / run_id
        path.mkdir(mode=0o700)
        manifest = {
            "run_id": run_id,
            "purpose": purpose,
            "job": job.body.decode("ascii"),
            "submitter": job.submitter,
            "signature": job.signature.hex(),
            "created": _now(),
        }
        write_whole(path / _MANIFEST, canonical_json(manifest))
        run = RunDirectory(path)
        run.record("state", state=RunState.QUEUED.value)
        return run

    def get(self, run_id: str) -> RunDirectory:
        """A run by its id.

        Raises:
            NotFoundError: there is no such run.
        """
        path = self._directory / run_id
        if path.parent != self._directory or not (path / _MANIFEST).is_file():
            raise NotFoundError(f"no run {run_id!r}")
        return RunDirectory(path)

    def all(self) -> list[RunDirectory]:
        """Every run, oldest first."""
        paths = [path.parent for path in self._directory.glob(f"*/{_MANIFEST}")]
        return sorted(map(RunDirectory, paths), key=lambda run: run.manifest().created)


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in place, whole and on disk, or not at all."""
    aside = path.with_name(f".{path.name}.new")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
