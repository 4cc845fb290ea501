"""A run as it is kept: manifest, log of events, checkpoints, results. Everything a resume needs.

It lies in a directory of its own, or in one of a database that looks the same; see `storage`. The
daemon, the server app and whoever watches share nothing but this. What must stay
true: a file appears whole or not at all, a checkpoint names the last round that it holds, and the
state is the last one in the log, which only grows. A line of the log that was cut short by a crash
was never acknowledged to anybody, and counts for nothing.
"""

import contextlib
import datetime as dt
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, TextIO, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError
from safetensors.numpy import load, save

from sordino_protocols.errors import InputError, IntegrityError, NotFoundError
from sordino_protocols.job import Job, SignedJob, read_job
from sordino_protocols.model_file import ReleasedModel, read_model, write_model
from sordino_protocols.models import FloatVector
from sordino_protocols.rounds import RunEvent, RunState, advance_run
from sordino_protocols.scaling import Scaling, scaling_from
from sordino_protocols.signing import canonical_json, check_name
from sordino_server.optimizers import ServerState
from sordino_server.run_manifest import Manifest, read_manifest, write_manifest
from sordino_server.storage import DirectoryStorage, Storage, storage_at

LogEntry = dict[str, object]
Document = TypeVar("Document", bound=BaseModel)
Arrays = Mapping[str, npt.NDArray[np.float32]]

_RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_MANIFEST = "manifest.json"
_LOCK = "lock"
_EVENTS = "events.jsonl"
_CHECKPOINT = "checkpoint.safetensors"
_SCALING = "scaling.safetensors"
_READINGS = "readings"
_SEALED = "sealed"
HINDERED = "hindered"
"""The event that says what the server itself cannot do until somebody mends it."""

EVENTS_IN_VAIN = frozenset({"left_out", "waiting_for_approval", "waiting_for_site", HINDERED})
"""What every attempt may log again, and get no further."""

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


class RunDirectory:
    """One run's directory, in the storage of all runs."""

    def __init__(self, runs: Storage, run_id: str, manifest: Manifest | None = None) -> None:
        """Use a run's directory.

        Args:
            runs: the storage of all runs.
            run_id: which.
            manifest: what the run is, where that was read already.
        """
        self._runs = runs
        self._files = runs.within(run_id)
        self._manifest = manifest

    @property
    def run_id(self) -> str:
        """The run's name, everywhere."""
        return self._files.folder

    @property
    def path(self) -> Path:
        """The directory, for people who look at files themselves: it is none in a database.

        Raises:
            InputError: the run lies in a database.
        """
        if not isinstance(self._files, DirectoryStorage):
            raise InputError(f"{self._files.describe()}: this run is no directory of files")
        return self._files.directory

    def manifest(self) -> Manifest:
        """What the run is.

        Raises:
            IntegrityError: the manifest cannot be read.
        """
        if self._manifest is None:
            content = self._files.read(_MANIFEST) or b""
            self._manifest = read_manifest(content, place=self._files.describe())
        return self._manifest

    def job(self) -> Job:
        """The run's job."""
        return read_job(self.manifest().job.body)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who executes this run, waiting for another who still does.

        The lock ends with the process that has it, however that ends.
        """
        with self._files.locked(_LOCK):
            yield

    def siblings(self) -> "Runs":
        """All runs of the server that has this one."""
        return Runs(self._runs)

    def open_text(self, name: str) -> contextlib.AbstractContextManager[TextIO]:
        """Text about the run for people, which grows."""
        return self._files.open_text(name)

    # ------------------------------------------------------------------ the log

    def record(self, event: str, **facts: object) -> None:
        """Append one event to the log; on disk when this returns."""
        line = canonical_json({"at": _now(), "event": event, **facts}) + b"\n"
        self._files.append(_EVENTS, line)

    def events(self) -> Iterator[LogEntry]:
        """The log from its beginning; a line that is not whole is left out."""
        yield from self.events_after(0)[0]

    def events_after(self, offset: int) -> tuple[list[LogEntry], int]:
        """What the log has after `offset`, in bytes, and the offset to go on from."""
        content = self._files.read_after(_EVENTS, offset)
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
            if entry["event"] not in EVENTS_IN_VAIN:
                attempts = attempts + 1 if entry["event"] == "attempt" else 0
        return attempts

    # ------------------------------------------------------------------ rounds

    def save_readings(self, number: int, readings: Arrays) -> None:
        """Keep what the lanes read in a round, for the audit: site to float32 [groups, lanes].

        In units in which every round's clipping norm is the plan's.
        """
        self._files.write(f"{_READINGS}/{number:06d}.safetensors", save(dict(readings)))

    def readings(self) -> Iterator[Arrays]:
        """The lanes' readings, round by round."""
        for name in self._files.names(_READINGS):
            yield load(self.content(f"{_READINGS}/{name}"))

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
        self._files.write(_CHECKPOINT, save(arrays))

    def checkpoint(self) -> ServerState | None:
        """The server's state after the last round that was completed, if there was one."""
        content = self._files.read(_CHECKPOINT)
        if content is None:
            return None
        arrays = load(content)
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
        self._files.write(_SCALING, save({"scaling": scaling.vector()}))

    def scaling(self) -> Scaling | None:
        """The scaling of the run's features; None if they enter as the schema scales them."""
        content = self._files.read(_SCALING)
        return None if content is None else scaling_from(load(content)["scaling"])

    def save_sealed(self, kind: SealedKind, envelopes: Mapping[str, bytes]) -> None:
        """Keep answers as their sites signed them: proof to others of what each of them said.

        Args:
            kind: of the answers.
            envelopes: by site; kept beside those of other sites.
        """
        for site, envelope in envelopes.items():
            self._files.write(f"{_SEALED}/{kind}/{check_name(site)}", envelope)

    def sealed(self, kind: SealedKind) -> dict[str, bytes]:
        """The kept answers of one kind, by site."""
        folder = f"{_SEALED}/{kind}"
        return {name: self.content(f"{folder}/{name}") for name in self._files.names(folder)}

    def save_model(self, weights: FloatVector, *, job_digest: str) -> None:
        """Write the released model: its weights, the run's scaling and what it belongs to."""
        model = ReleasedModel(weights, self.scaling())
        content = write_model(model, job_digest=job_digest, run_id=self.run_id)
        self._files.write(MODEL, content)

    def model(self) -> FloatVector:
        """The released model's flat weights.

        Raises:
            NotFoundError: the run has not finished.
        """
        return read_model(self.content(MODEL)).weights

    def has(self, name: str) -> bool:
        """Whether the run has a file."""
        return self._files.stamp(name) is not None

    def stamp(self, name: str) -> str | None:
        """What changes whenever a file of the run does; None if it has none of that name."""
        return self._files.stamp(name)

    def content(self, name: str) -> bytes:
        """A file of the run.

        Raises:
            NotFoundError: the run has not got that far.
        """
        content = self._files.read(name)
        if content is None:
            raise NotFoundError(f"run {self.run_id} has no {name} yet")
        return content

    def save_content(self, name: str, content: bytes) -> None:
        """Write a file of the run, in place of an earlier one."""
        self._files.write(name, content)

    def save(self, name: str, document: BaseModel) -> None:
        """Write a result as indented JSON."""
        self._files.write(name, document.model_dump_json(indent=2).encode())

    def read(self, name: str, kind: type[Document]) -> Document:
        """Read a result.

        Raises:
            NotFoundError: the run has not got that far.
            IntegrityError: the file is not what we wrote.
        """
        content = self.content(name)
        try:
            return kind.model_validate_json(content)
        except ValidationError:
            place = self._files.describe(name)
            raise IntegrityError(f"{place}: this file of a run cannot be read") from None

    def read_if_there(self, name: str, kind: type[Document]) -> Document | None:
        """Read a result that not every run has; raises as `read` does, but for a missing file."""
        return self.read(name, kind) if self.has(name) else None

    def artifact(self, name: str) -> bytes:
        """The content of a file that a run leaves for others.

        Raises:
            NotFoundError: it is not one of `ARTIFACTS`, or the run has not got that far.
        """
        content = self._files.read(name) if name in ARTIFACTS else None
        if content is None:
            raise NotFoundError(f"run {self.run_id} has no {name!r}")
        return content


class Runs:
    """The directory of all runs, or one like it in a database."""

    def __init__(self, place: Path | Storage) -> None:
        self._storage = storage_at(place)

    @property
    def storage(self) -> Storage:
        """Where the runs lie, and beside them what is of no run."""
        return self._storage

    def create(self, job: SignedJob, *, brought: ReleasedModel | None = None) -> RunDirectory:
        """Queue a run; it is there after a crash if this returned.

        Args:
            job: what is to be done.
            brought: the model that a validation is of; the run has it from its beginning.
        """
        stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%d-%H%M%S")
        run_id = f"{job.purpose}-{stamp}-{secrets.token_hex(4)}"
        run = RunDirectory(self._storage, run_id)
        run.record("state", state=RunState.QUEUED.value)
        if brought is not None:
            if brought.scaling is not None:
                run.save_scaling(brought.scaling)
            run.save_model(brought.weights, job_digest=job.digest)
        # Last: with its manifest the run exists, and may be started at once.
        manifest = Manifest(run_id, job, _now())
        run.save_content(_MANIFEST, write_manifest(manifest))
        return run

    def get(self, run_id: str) -> RunDirectory:
        """A run by its id.

        Raises:
            NotFoundError: there is no such run.
        """
        # The id comes from outside: checked before it becomes a path.
        if _RUN_ID.fullmatch(run_id):
            run = RunDirectory(self._storage, run_id)
            if run.has(_MANIFEST):
                return run
        raise NotFoundError(f"no run {run_id!r}")

    def all(self) -> list[RunDirectory]:
        """Every run, oldest first; one whose manifest cannot be read stops no other."""
        created: list[tuple[str, RunDirectory]] = []
        for run_id, content in self._storage.read_each(_MANIFEST).items():
            with contextlib.suppress(IntegrityError):
                manifest = read_manifest(content, place=run_id)
                run = RunDirectory(self._storage, run_id, manifest)
                created.append((manifest.created, run))
        return [run for _, run in sorted(created, key=lambda each: each[0])]


def run_directory(path: Path) -> RunDirectory:
    """The run in a directory, whether it is one or not."""
    place = path.absolute()
    return RunDirectory(DirectoryStorage(place.parent), place.name)


def last_state(entries: Iterable[LogEntry]) -> RunState | None:
    """The state that a stretch of a log ends in; None if it names none."""
    states = [entry["state"] for entry in entries if entry["event"] == "state"]
    return RunState(str(states[-1])) if states else None


def _entry(line: bytes) -> LogEntry | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
