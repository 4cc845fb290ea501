"""A run on disk: manifest, log of events, checkpoints, results. Everything a resume needs.

The daemon, the server app and whoever watches share nothing but this directory. What must stay
true: a file appears whole or not at all, a checkpoint names the last round that it holds, and the
state is the last one in the log, which only grows. A line of the log that was cut short by a crash
was never acknowledged to anybody, and counts for nothing.
"""

import contextlib
import datetime as dt
import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError
from safetensors.numpy import load, save

from sordino_protocols.errors import IntegrityError, NotFoundError
from sordino_protocols.job import PURPOSES, Job, Purpose, SignedJob, read_job
from sordino_protocols.model_file import ReleasedModel, read_model, write_model
from sordino_protocols.models import FloatVector
from sordino_protocols.rounds import RunEvent, RunState, advance_run
from sordino_protocols.scaling import Scaling, scaling_from
from sordino_protocols.signing import canonical_json, check_name
from sordino_server.optimizers import ServerState

LogEntry = dict[str, object]
Document = TypeVar("Document", bound=BaseModel)
Arrays = Mapping[str, npt.NDArray[np.float32]]

_RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_MANIFEST = "manifest.json"
_LOCK = "lock"
_EVENTS = "events.jsonl"
_CHECKPOINT = "checkpoint.safetensors"
_SCALING = "scaling.safetensors"
# Every attempt may log these again and get no further.
_NO_PROGRESS = frozenset({"left_out", "waiting_for_approval"})
MODEL = "model.safetensors"
STATEMENT = "statement.json"
QUOTES = "quotes.json"
ADMISSIONS = "admissions.json"
EVALUATION = "evaluation.json"
CERTIFICATE = "certificate.json"
DESCRIPTIONS = "descriptions.json"
SYNTHESIS = "synthesis.json"
TABLES = "tables.safetensors"
ROWS = "rows.safetensors"
GENERATOR = "generator.safetensors"
COUNTS = "counts.json"
RESULTS = (MODEL, GENERATOR, ROWS, TABLES, COUNTS)
"""What may come of a run: the certificate names the content of each that did."""
ARTIFACTS = frozenset({*RESULTS, STATEMENT, QUOTES, CERTIFICATE, DESCRIPTIONS, SYNTHESIS})

SealedKind = Literal["admissions", "receipts"]
"""What of the sites' answers is kept exactly as they signed it."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a run is, fixed when it was queued."""

    run_id: str
    job: SignedJob
    created: str

    @property
    def purpose(self) -> Purpose:
        """What the job was signed for: to be trained, or only to be priced."""
        return self.job.purpose


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
                raw["job"].encode("ascii"),
                raw["submitter"],
                bytes.fromhex(raw["signature"]),
                PURPOSES[raw["purpose"]],
                raw["nonce"],
            )
            return Manifest(raw["run_id"], signed, raw["created"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise IntegrityError(f"{self.path}: the run's manifest cannot be read") from None

    def job(self) -> Job:
        """The run's job."""
        return read_job(self.manifest().job.body)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who executes this run, waiting for another who still does.

        The lock ends with the process that has it, however that ends.
        """
        with (self.path / _LOCK).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def siblings(self) -> "Runs":
        """All runs of the server that has this one."""
        return Runs(self.path.parent)

    # ------------------------------------------------------------------ the log

    def record(self, event: str, **facts: object) -> None:
        """Append one event to the log; on disk when this returns."""
        line = canonical_json({"at": _now(), "event": event, **facts}) + b"\n"
        with (self.path / _EVENTS).open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                # What a crash cut short must not swallow this event.
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def events(self) -> Iterator[LogEntry]:
        """The log from its beginning; a line that is not whole is left out."""
        yield from self.events_after(0)[0]

    def events_after(self, offset: int) -> tuple[list[LogEntry], int]:
        """What the log has after `offset`, in bytes, and the offset to go on from."""
        try:
            with (self.path / _EVENTS).open("rb") as file:
                file.seek(offset)
                content = file.read()
        except FileNotFoundError:
            return [], offset
        whole = content[: content.rfind(b"\n") + 1]
        entries = map(_entry, whole.split(b"\n"))
        return [entry for entry in entries if entry is not None], offset + len(whole)

    def state(self) -> RunState:
        """Where the run is."""
        return last_state(self.events()) or RunState.QUEUED

    def advance(self, event: RunEvent, **facts: object) -> RunState:
        """Move the run to its next state, and log it."""
        state = advance_run(self.state(), event)
        self.record("state", state=state.value, **facts)
        return state

    def attempts_in_vain(self) -> int:
        """How often the run was started since anything else happened to it."""
        attempts = 0
        for entry in self.events():
            if entry["event"] not in _NO_PROGRESS:
                attempts = attempts + 1 if entry["event"] == "attempt" else 0
        return attempts

    # ------------------------------------------------------------------ rounds

    def save_readings(self, number: int, readings: Arrays) -> None:
        """Keep what the lanes read in a round, for the audit: site to float32 [groups, lanes].

        In units in which every round's clipping norm is the plan's.
        """
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
            "first_moment": state.first_moment,
            "second_moment": state.second_moment,
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
            weights=arrays["weights"],
            first_moment=arrays["first_moment"],
            second_moment=arrays["second_moment"],
            average=arrays["average"],
            average_count=average_count,
            rounds_done=rounds_done,
        )

    # ------------------------------------------------------------------ results

    def save_scaling(self, scaling: Scaling) -> None:
        """Keep the scaling of the run's features: every round and the model have it."""
        write_whole(self.path / _SCALING, save({"scaling": scaling.vector()}))

    def scaling(self) -> Scaling | None:
        """The scaling of the run's features; None if they enter as the schema scales them."""
        path = self.path / _SCALING
        return scaling_from(load(path.read_bytes())["scaling"]) if path.exists() else None

    def save_sealed(self, kind: SealedKind, envelopes: Mapping[str, bytes]) -> None:
        """Keep answers as their sites signed them: proof to others of what each of them said.

        Args:
            kind: of the answers.
            envelopes: by site; kept beside those of other sites.
        """
        directory = self.path / "sealed" / kind
        directory.mkdir(parents=True, exist_ok=True)
        for site, envelope in envelopes.items():
            write_whole(directory / check_name(site), envelope)

    def sealed(self, kind: SealedKind) -> dict[str, bytes]:
        """The kept answers of one kind, by site."""
        paths = sorted((self.path / "sealed" / kind).glob("[!.]*"))
        return {path.name: path.read_bytes() for path in paths}

    def save_model(self, weights: FloatVector, *, job_digest: str) -> None:
        """Write the released model: its weights, the run's scaling and what it belongs to."""
        model = ReleasedModel(weights, self.scaling())
        content = write_model(model, job_digest=job_digest, run_id=self.run_id)
        write_whole(self.path / MODEL, content)

    def model(self) -> FloatVector:
        """The released model's flat weights.

        Raises:
            NotFoundError: the run has not finished.
        """
        path = self.path / MODEL
        if not path.exists():
            raise NotFoundError(f"run {self.run_id} has no model yet")
        return read_model(path.read_bytes()).weights

    def save(self, name: str, document: BaseModel) -> None:
        """Write a result as indented JSON."""
        write_whole(self.path / name, document.model_dump_json(indent=2).encode())

    def read(self, name: str, kind: type[Document]) -> Document:
        """Read a result.

        Raises:
            NotFoundError: the run has not got that far.
            IntegrityError: the file is not what we wrote.
        """
        path = self.path / name
        if not path.exists():
            raise NotFoundError(f"run {self.run_id} has no {name} yet")
        try:
            return kind.model_validate_json(path.read_bytes())
        except ValidationError:
            raise IntegrityError(f"{path}: this file of a run cannot be read") from None

    def read_if_there(self, name: str, kind: type[Document]) -> Document | None:
        """Read a result that not every run has; raises as `read` does, but for a missing file."""
        return self.read(name, kind) if (self.path / name).exists() else None

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

    def create(self, job: SignedJob, *, brought: ReleasedModel | None = None) -> RunDirectory:
        """Queue a run; it is there after a crash if this returned.

        Args:
            job: what is to be done.
            brought: the model that a validation is of; the run has it from its beginning.
        """
        stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%d-%H%M%S")
        run_id = f"{job.purpose}-{stamp}-{secrets.token_hex(4)}"
        path = self._directory / run_id
        path.mkdir(mode=0o700)
        run = RunDirectory(path)
        run.record("state", state=RunState.QUEUED.value)
        if brought is not None:
            if brought.scaling is not None:
                run.save_scaling(brought.scaling)
            run.save_model(brought.weights, job_digest=job.digest)
        manifest = {
            "run_id": run_id,
            "purpose": job.purpose,
            "job": job.body.decode("ascii"),
            "submitter": job.submitter,
            "signature": job.signature.hex(),
            "nonce": job.nonce,
            "created": _now(),
        }
        # Last: with its manifest the run exists, and may be started at once.
        write_whole(path / _MANIFEST, canonical_json(manifest))
        _sync(self._directory)
        return run

    def get(self, run_id: str) -> RunDirectory:
        """A run by its id.

        Raises:
            NotFoundError: there is no such run.
        """
        path = self._directory / run_id
        # The id comes from outside: checked before it becomes a path.
        if not _RUN_ID.fullmatch(run_id) or not (path / _MANIFEST).is_file():
            raise NotFoundError(f"no run {run_id!r}")
        return RunDirectory(path)

    def all(self) -> list[RunDirectory]:
        """Every run, oldest first; one whose manifest cannot be read stops no other."""
        created: list[tuple[str, RunDirectory]] = []
        for path in self._directory.glob(f"*/{_MANIFEST}"):
            run = RunDirectory(path.parent)
            with contextlib.suppress(IntegrityError):
                created.append((run.manifest().created, run))
        return [run for _, run in sorted(created, key=lambda each: each[0])]


def last_state(entries: Iterable[LogEntry]) -> RunState | None:
    """The state that a stretch of a log ends in; None if it names none."""
    states = [entry["state"] for entry in entries if entry["event"] == "state"]
    return RunState(str(states[-1])) if states else None


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in place, whole and on disk, or not at all."""
    aside = path.with_name(f".{path.name}.new")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    # The rename itself is on disk only when the directory is.
    _sync(path.parent)


def _entry(line: bytes) -> LogEntry | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
