"""Kill a site at one line after the other of its code, and write down what it left behind.

Run as `python crashing.py DIRECTORY VARIANT-STRIDE...`; writes one JSON object a crash to
`DIRECTORY/VARIANT-STRIDE/crashes.jsonl`. A child of this process answers one round and is killed
(SIGKILL) at its n-th line in the modules that keep state; another child starts the site again and
asks for the same round twice. The same is done with two broken sites, which pay too late or store
nothing, to show that what is written down tells.

A killed process is a crash of the process: what it gave to the kernel is there. The order of
`fsync` and `rename`, which is what a power cut would show, is a test of the outbox.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from one_site import OneSite, make_job, round_plan

from sordino_client.admitted import AdmittedRun
from sordino_client.ledger import read_entries
from sordino_client.outbox import Outbox, Release
from sordino_client.site import Site
from sordino_protocols.messages import Reply
from sordino_protocols.privacy import Event
from sordino_protocols.wire import Opened, seal

TRACED = {
    "chain.py",
    "chain_store.py",
    "ledger.py",
    "outbox.py",
    "admitted.py",
    "site.py",
    "witness.py",
    "crashing.py",
}
CRASHES = "crashes.jsonl"
RUN, STEP = "run-1", "round-1"
Mechanism = Callable[[], Reply]
TraceFunction = Callable[[FrameType, str, object], "TraceFunction | None"]


def pay_too_late(  # noqa: PLR0917 (called as the method is)
    site: Site, run: AdmittedRun, step: str, event: Event, asked: Opened, mechanism: Mechanism
) -> bytes:
    """A broken `Site._release`: stores first and pays afterwards."""
    stored = site._outbox.get(run.run_id, step)
    if stored is None:
        stored = Release(asked.digest, seal(mechanism(), site._signer))
        site._outbox.put(run.run_id, step, stored)
    budget = site._budget(run.job)
    assert budget is not None
    reservation = site._ledger.reserve(run.run_id, step, event, budget=budget)
    site._ledger.commit(reservation, release_sha256=stored.sha256)
    return stored.envelope


def store_nothing(  # noqa: PLR0917 (called as the method is)
    site: Site, run: AdmittedRun, step: str, event: Event, asked: Opened, mechanism: Mechanism
) -> bytes:
    """A broken `Site._release`: makes the release anew whenever it is asked."""
    del asked
    budget = site._budget(run.job)
    assert budget is not None
    site._ledger.reserve(run.run_id, step, event, budget=budget)
    return seal(mechanism(), site._signer)


VARIANTS = {"right": Site._release, "pay_too_late": pay_too_late, "store_nothing": store_nothing}


def die_at_line(number: int) -> None:
    """Kill this process before it executes its `number`-th line of the traced modules."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> TraceFunction | None:
        nonlocal lines
        if Path(frame.f_code.co_filename).name not in TRACED:
            return None
        if event == "line":
            lines += 1
            if lines == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def in_child(work: Callable[[], None]) -> bool:
    """Run in a fork; whether it lived to the end."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 (the child must never go on as the parent)
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("the child failed")
    return os.WIFEXITED(status)


def answer(directory: Path, crash_at: int | None, sent: Path) -> None:
    """Answer one round; what left the site is in `sent` afterwards."""
    made = OneSite(directory)
    site = made.open()
    request = made.seal(round_plan())
    if crash_at is not None:
        die_at_line(crash_at)
    envelope = site.answer(request)
    sys.settrace(None)
    sent.write_bytes(envelope)


def recover(directory: Path, result: Path) -> None:
    """Start again, ask for the same round twice, and say what came."""
    made = OneSite(directory)
    site = made.open()
    request = made.seal(round_plan())
    facts = {"again": [site.answer(request).hex(), site.answer(request).hex()]}
    made.close()
    result.write_text(json.dumps(facts))


def look(directory: Path) -> dict[str, object]:
    """What lies on disk."""
    config = OneSite(directory).config
    release = Outbox(config.site.state / "outbox").get(RUN, STEP)
    return {
        "kinds": [entry["kind"] for entry in read_entries(config.ledger_path)],
        "stored": None if release is None else release.envelope.hex(),
    }


def crash_once(template: Path, directory: Path, number: int) -> bool:
    """One crash and what came of it, written down; whether there was a crash at all."""
    shutil.copytree(template, directory)
    sent, result = directory / "sent", directory / "result.json"
    lived = in_child(lambda: answer(directory, number, sent))
    facts: dict[str, object] = {
        "line": number,
        "lived": lived,
        "sent": sent.read_bytes().hex() if sent.exists() else None,
        "before": look(directory),
    }
    in_child(lambda: recover(directory, result))
    facts |= json.loads(result.read_text()) | {"after": look(directory)}
    with (directory.parent / CRASHES).open("a") as file:
        file.write(json.dumps(facts) + "\n")
    shutil.rmtree(directory)
    return not lived


def prepare(template: Path) -> None:
    """A site that has admitted a run and answered nothing yet."""
    made = OneSite(template)
    made.prepare()
    made.open()
    made.ask(made.admit())
    made.close()


def crash_everywhere(directory: Path, variant: str, stride: int) -> None:
    """Crash at every `stride`-th line until the round is through."""
    setattr(Site, "_release", VARIANTS[variant])  # noqa: B010 (a broken variant is the point)
    template = directory / "template"
    template.mkdir(parents=True)
    in_child(lambda: prepare(template))
    number = 1
    while crash_once(template, directory / str(number), number):
        number += stride


def main(directory: Path, series: Sequence[str]) -> None:
    """Each series of crashes in a child of its own, which a broken site ends with."""
    make_job()
    for each in series:
        variant, stride = each.split("-")
        in_child(partial(crash_everywhere, directory / each, variant, int(stride)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
