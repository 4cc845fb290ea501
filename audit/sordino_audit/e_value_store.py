"""The file in which an auditor keeps all e-processes, from audit to audit.

One file at the server, one at each site for its own. It is written whole and on disk, under a lock,
so two audits at once count one after the other, and a crash leaves the old file or the new one.
"""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, JsonValue, ValidationError

from sordino_audit.bounds import e_process
from sordino_audit.bounds.e_process import EProcess
from sordino_audit.e_values import (
    EValue,
    Evidence,
    History,
    PairEvidence,
    Weigh,
    counted,
    e_value,
)
from sordino_audit.noise_process import NoiseProcess
from sordino_protocols.errors import IntegrityError
from sordino_protocols.files import STRICT
from sordino_server.storage import write_whole


class NoiseState(BaseModel):
    """A `NoiseProcess`."""

    model_config = STRICT

    kind: Literal["noise"] = "noise"
    log_capitals: tuple[float, ...]
    readings: int


class PairState(BaseModel):
    """An `EProcess`, as `e_process.to_json` writes it."""

    model_config = STRICT

    kind: Literal["pairs"] = "pairs"
    process: dict[str, JsonValue]


class StoredHistory(BaseModel):
    """One e-process, by site, test and configuration."""

    model_config = STRICT

    site: str
    test: str
    configuration: str
    state: NoiseState | PairState
    runs: tuple[str, ...]
    path: tuple[float, ...]


class StoredHistories(BaseModel):
    """The whole file."""

    model_config = STRICT

    version: Literal[1] = 1
    histories: tuple[StoredHistory, ...]


_Key = tuple[str, str, str, str]


class EValueStore:
    """All e-processes of one auditor.

    Args:
        path: the file; made when the first run counts.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def weigh(self, run_id: str) -> Weigh:
        """What counts a run's evidence together with that of all runs before it.

        It is on disk when that returns. A run that counted already is not counted again.

        Returns:
            a function that raises `IntegrityError` if the file cannot be read.
        """

        def weigh(evidence: Sequence[Evidence]) -> tuple[EValue, ...]:
            with self._locked():
                known = self._read()
                for each in evidence:
                    known[_key(each)] = counted(known.get(_key(each)), each, run_id=run_id)
                self._write(known)
            return tuple(e_value(each, known[_key(each)]) for each in evidence)

        return weigh

    def _read(self) -> dict[_Key, History]:
        try:
            stored = StoredHistories.model_validate_json(self._path.read_bytes())
            return {_key_of(each): _history(each) for each in stored.histories}
        except FileNotFoundError:
            return {}
        except (ValidationError, ValueError):
            raise IntegrityError(f"{self._path}: e-values that cannot be read") from None

    def _write(self, known: dict[_Key, History]) -> None:
        stored = StoredHistories(
            histories=tuple(_stored(key, history) for key, history in known.items())
        )
        write_whole(self._path, stored.model_dump_json(indent=1).encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(f".{self._path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _key(evidence: Evidence) -> _Key:
    kind = "pairs" if isinstance(evidence, PairEvidence) else "noise"
    return evidence.site, evidence.test, evidence.configuration, kind


def _key_of(stored: StoredHistory) -> _Key:
    return stored.site, stored.test, stored.configuration, stored.state.kind


def _history(stored: StoredHistory) -> History:
    match stored.state:
        case NoiseState(log_capitals=capitals, readings=readings):
            return History(NoiseProcess(capitals, readings), stored.runs, stored.path)
        case PairState(process=process):
            return History(e_process.from_json(process), stored.runs, stored.path)


def _stored(key: _Key, history: History) -> StoredHistory:
    site, test, configuration, _ = key
    return StoredHistory(
        site=site,
        test=test,
        configuration=configuration,
        state=_state(history.process),
        runs=history.runs,
        path=history.path,
    )


def _state(process: EProcess | NoiseProcess) -> NoiseState | PairState:
    if isinstance(process, NoiseProcess):
        return NoiseState(log_capitals=process.log_capitals, readings=process.readings)
    return PairState.model_validate({"process": e_process.to_json(process)})
