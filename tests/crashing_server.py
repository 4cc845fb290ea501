"""Kill a whole federation at one step after the other of a run, and write down what became of it.

Run as `python crashing_server.py DIRECTORY VARIANT-STEPS-STRIDE...`; writes one JSON object a crash
to `DIRECTORY/VARIANT-STEPS-STRIDE/crashes.jsonl`. A child of this process executes a run over a
grid in memory, server and sites in one process, and is killed (SIGKILL) at its n-th step; another
child opens everything again and brings the run to its end. Steps are the ends of the functions that
change a state (`transitions`), or the beginnings and ends of these and of all that write to a disk
(`everything`). The process that dies is the server's and every site's at once, as when a machine
reboots.

From round 2 on one of three sites is silent: rounds end by their grace; and by their deadline in
the variant `missed`, where all three are needed. A broken server, whose second attempt begins with
other weights (`forgetful`), shows that what is written down tells.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

import torch
from crashing import CRASHES, in_child
from federation import JOB, Federation, make_job, trust

from sordino_client.ledger import read_entries
from sordino_protocols.messages import RoundPlan
from sordino_protocols.models import FloatVector, ModelSpec, initial_weights
from sordino_protocols.rounds import RunState
from sordino_protocols.wire import open_sealed
from sordino_server import training_rounds
from sordino_server.questions import RunFailedError
from sordino_server.runs import STATEMENT, RunDirectory
from sordino_server.statement import Statement

SITES = ("a", "b", "c")
SILENT = "c"
TRANSITIONS = frozenset({"advance_run", "advance_round"})
EVERYTHING = TRANSITIONS | frozenset(
    {
        "record",
        "save",
        "save_sealed",
        "save_scaling",
        "save_readings",
        "save_checkpoint",
        "save_model",
        "send",
        "reserve",
        "commit",
        "hold",
        "put",
    }
)
JOB_TEXT = JOB.replace("rounds = 3", "rounds = 2") + '[statistics]\nkind = "moments"\nshare = 0.3\n'
MISSED_TEXT = JOB_TEXT.replace("quorum = 2", "quorum = 3").replace("= 60", "= 1")
TraceFunction = Callable[[FrameType, str, object], "TraceFunction | None"]


def die_at_step(number: int, *, functions: frozenset[str]) -> None:
    """Kill this process at the `number`-th step."""
    count, with_beginnings = 0, functions is EVERYTHING

    def step() -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def trace_inside(_frame: FrameType, event: str, _: object) -> TraceFunction | None:
        if event == "return":
            step()
        return trace_inside

    def trace(frame: FrameType, _event: str, _: object) -> TraceFunction | None:
        code = frame.f_code
        if code.co_name not in functions or "sordino_" not in code.co_filename:
            return None
        if with_beginnings:
            step()
        frame.f_trace_lines = False
        return trace_inside

    sys.settrace(trace)


def execute(
    federation: Federation, run: RunDirectory, answers: Path, crash: Callable[[], None]
) -> None:
    """Open everything, and bring the run to its end, or to the crash.

    Every answer that a site gives is appended to `answers`, as request and answer.
    """
    for site in federation.sites.values():
        site.open()

    def answering(name: str) -> Callable[[bytes], bytes | None]:
        def answer(envelope: bytes) -> bytes | None:
            message = open_sealed(envelope, trust(federation.server)).message
            if name == SILENT and isinstance(message, RoundPlan) and message.round > 1:
                return None
            sent = federation.sites[name].answer(envelope)
            with answers.open("a") as file:
                file.write(f"{name} {envelope.hex()} {sent.hex()}\n")
            return sent

        return answer

    grid = federation.grid({name: answering(name) for name in SITES})
    crash()
    with contextlib.suppress(RunFailedError):
        federation.coordinator(run, grid).execute()
    sys.settrace(None)


def look(federation: Federation, run: RunDirectory, answers: Path) -> dict[str, object]:
    """What became of the run."""
    replies: dict[str, set[str]] = {}
    for line in answers.read_text().splitlines():
        name, request, answer = line.split()
        replies.setdefault(f"{name} {request}", set()).add(answer)
    is_done = run.state() is RunState.DONE
    statement = run.read(STATEMENT, Statement) if is_done else None
    events = list(run.events())
    return {
        "state": run.state().value,
        "rounds": sorted({int(str(e["round"])) for e in events if e["event"] == "round"}),
        "paid": {
            name: sorted(
                str(entry["step"])
                for entry in read_entries(site.directory / "ledger.db")
                if entry["kind"] == "reserve"
            )
            for name, site in federation.sites.items()
        },
        "epsilons": sorted({each.epsilon_spent_pld for each in statement.receipts.values()})
        if statement is not None
        else [],
        "different_answers": sum(len(each) > 1 for each in replies.values()),
        "reason": next((str(e["reason"]) for e in reversed(events) if "reason" in e), None),
    }


def crash_once(
    federation: Federation,
    run: RunDirectory,
    directory: Path,
    *,
    crash_at: int,
    functions: frozenset[str],
) -> bool:
    """One crash and what came of it, written down; whether there was a crash at all."""
    work = directory / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(directory / "template", work)
    answers = work / "answers"
    answers.touch()

    def crash() -> None:
        die_at_step(crash_at, functions=functions)

    lived = in_child(lambda: execute(federation, run, answers, crash))
    state = run.state().value
    if not lived:
        in_child(lambda: execute(federation, run, answers, lambda: None))
    facts = {"step": crash_at, "lived": lived, "killed_in": state}
    with (directory / CRASHES).open("a") as file:
        file.write(json.dumps(facts | look(federation, run, answers)) + "\n")
    return not lived


def forget_the_beginning() -> None:
    """A broken server: weights that another attempt cannot make again."""

    def other(spec: ModelSpec, feature_count: int, *, seed: bytes) -> FloatVector:
        weights = initial_weights(spec, feature_count, seed=seed)
        return weights + secrets.randbelow(1 << 20) / (1 << 20)

    setattr(training_rounds, "initial_weights", other)  # noqa: B010 (a broken server is the point)


def crash_everywhere(directory: Path, variant: str, steps: str, *, stride: int) -> None:
    """Crash at every `stride`-th step until the run is through."""
    if variant == "forgetful":
        forget_the_beginning()
    work = directory / "work"
    work.mkdir(parents=True)
    federation = Federation(work, SITES)
    run = federation.submit(make_job(MISSED_TEXT if variant == "missed" else JOB_TEXT))
    federation.close()
    shutil.copytree(work, directory / "template")
    number, functions = 1, {"transitions": TRANSITIONS, "everything": EVERYTHING}[steps]
    while crash_once(federation, run, directory, crash_at=number, functions=functions):
        number += stride


def warm_up(directory: Path) -> None:
    """Once undisturbed: what this process has computed and imported, no child has to."""
    directory.mkdir(parents=True)
    federation = Federation(directory, SITES)
    for text in (MISSED_TEXT, JOB_TEXT):
        run = federation.submit(make_job(text))
    answers = directory / "answers"
    answers.touch()
    execute(federation, run, answers, lambda: None)
    federation.close()


def main(directory: Path, series: Sequence[str]) -> None:
    """Each series of crashes in a child of its own, which a broken server ends with."""
    torch.set_num_threads(1)  # a fork has none of the others
    warm_up(directory / "warm")
    for each in series:
        variant, steps, stride = each.split("-")
        in_child(partial(crash_everywhere, directory / each, variant, steps, stride=int(stride)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
