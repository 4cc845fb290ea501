"""Kill a site before one system call after the other, and say which of its promises that broke.

Run as `python syscalls.py DIRECTORY VARIANT STRIDE [UNTIL]`; writes one JSON object a kill to
`DIRECTORY/kills.jsonl`. A child of this process is the real site: it holds a run's cost, reserves,
makes, stores and commits the release of a round, and settles. It is killed (SIGKILL, by `ptrace`)
before its n-th system call on that way; another child starts the site again and asks for everything
twice. STRIDE 1 kills everywhere; a kill that disproves the promise UNTIL is the last. The broken
sites of `crashing` show that this finds out.

A killed process is a crash of the process: what it gave to the kernel is there. The order of
`fsync` and `rename`, which is what a power cut would show, is a test of the outbox.
"""

import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count, pairwise
from pathlib import Path

import structlog
import torch
from crashing import VARIANTS, in_child
from one_site import OneSite, make_job, round_plan, settle
from ptrace import ForbiddenError, begin, end, run_traced

from sordino_client.ledger import read_entries
from sordino_client.outbox import Outbox
from sordino_client.site import Site
from sordino_protocols.messages import Message

KILLS = "kills.jsonl"
STEPS = ("admission", "round-1", "receipt")
"""What the outbox calls the answers, in the order in which they are asked for."""
PAID = "round-1"
COMPLETE = ("hold", f"reserve {PAID}", f"commit {PAID}", "settle")
LIMIT = 8.0
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Told:
    """An answer that left the site, and what the site had spent by then."""

    step: str
    sha256: str
    spent: float


@dataclass(frozen=True, slots=True)
class Disk:
    """What lay on disk: the ledger's entries, and the SHA-256 of each answer that was stored."""

    entries: tuple[str, ...]
    stored: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Restarted:
    """What the site did when it was started again and asked for everything twice."""

    spent_at_start: float
    spent: float
    held: float
    verified: int
    again: Mapping[str, Sequence[str]]


def problems(told: Sequence[Told], before: Disk, restarted: Restarted, after: Disk) -> list[str]:
    """Which promises of ledger and outbox one kill disproves."""
    last = max((each.spent for each in told), default=0.0)
    spendings = (last, restarted.spent_at_start, restarted.spent)
    answers = {step: _answers(step, told, before, restarted, after) for step in STEPS}
    left = {each.step for each in told}
    broken = {
        "a release was stored that was not paid for": (
            PAID in before.stored and f"reserve {PAID}" not in before.entries
        ),
        "a release was sent before it was committed": (
            PAID in left and f"commit {PAID}" not in before.entries
        ),
        "an answer was sent before it was stored": not left <= set(before.stored),
        "what was spent was given back": (
            any(later < earlier - _ROUNDING for earlier, later in pairwise(spendings))
            or before.entries != after.entries[: len(before.entries)]
        ),
        "more was spent than the limit": max(spendings) + restarted.held > LIMIT,
        "something was charged for twice or never": Counter(after.entries) != Counter(COMPLETE),
        "one step has several releases": any(len(found) != 1 for found in answers.values()),
        "the chain does not verify": restarted.verified != len(after.entries),
    }
    return [problem for problem, is_so in broken.items() if is_so]


def _answers(
    step: str, told: Sequence[Told], before: Disk, restarted: Restarted, after: Disk
) -> set[str]:
    """The different answers that ever existed for a step."""
    sent = {each.sha256 for each in told if each.step == step}
    stored = {disk.stored[step] for disk in (before, after) if step in disk.stored}
    return sent | stored | set(restarted.again[step])


def requests(made: OneSite) -> dict[str, Message]:
    """A whole run, by the name of its answers."""
    return dict(zip(STEPS, (made.admit(), round_plan(), settle()), strict=True))


def open_quietly(directory: Path) -> OneSite:
    """Start the site, without its log."""
    made = OneSite(directory)
    made.open()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    torch.set_num_threads(1)
    return made


def live(directory: Path) -> None:
    """A site's life from hold to settle; what left it is in the file `told`."""
    made = open_quietly(directory)
    sealed = {step: made.seal(request) for step, request in requests(made).items()}
    told = os.open(directory / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    begin()
    for step, request in sealed.items():
        envelope = made.site.answer(request)
        os.write(told, _line(asdict(Told(step, _sha256(envelope), made.spent))))
    end()
    made.close()


def restart(directory: Path) -> None:
    """Start again, ask for everything twice, and write down what came."""
    made = open_quietly(directory)
    at_start = made.spent
    again = {
        step: [_sha256(made.site.answer(made.seal(request))) for _ in range(2)]
        for step, request in requests(made).items()
    }
    verified = made.ledger.verify()
    came = Restarted(at_start, made.spent, made.held, verified, again)
    (directory / "restarted").write_bytes(_line(asdict(came)))
    made.close()


def look(directory: Path) -> Disk:
    """What lies on disk."""
    config = OneSite(directory).config
    outbox = Outbox(config.site.state / "outbox")
    entries = read_entries(config.ledger_path) if config.ledger_path.exists() else ()
    found = {step: outbox.get("run-1", step) for step in STEPS}
    return Disk(
        tuple(f"{entry['kind']} {entry.get('step', '')}".strip() for entry in entries),
        {step: release.sha256 for step, release in found.items() if release is not None},
    )


def kill_once(template: Path, directory: Path, number: int, *, until: str) -> bool:
    """One kill and what came of it, written down; whether there is more to find out."""
    shutil.copytree(template, directory)
    traced = run_traced(lambda: live(directory), kill_before=number)
    before = look(directory)
    in_child(lambda: restart(directory))
    told = _told(directory / "told")
    restarted = Restarted(**json.loads((directory / "restarted").read_bytes()))
    found = problems(told, before, restarted, look(directory))
    facts = {
        "kill": number,
        "lived": traced.lived,
        "call": traced.last,
        "entries": len(before.entries),
        "stored": sorted(before.stored),
        "problems": found,
    }
    with (directory.parent / KILLS).open("ab") as file:
        file.write(_line(facts))
    shutil.rmtree(directory)
    return not traced.lived and until not in found


def _told(path: Path) -> list[Told]:
    """What left the site. A line that a kill cut short was never said."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [Told(**json.loads(line)) for line in lines]


def _line(facts: Mapping[str, object]) -> bytes:
    return json.dumps(facts).encode() + b"\n"


def _sha256(envelope: bytes) -> str:
    return hashlib.sha256(envelope).hexdigest()


def prepare(template: Path) -> None:
    """A site that was started once and has done nothing yet."""
    OneSite(template).prepare()
    open_quietly(template).close()


def warm_up(template: Path, directory: Path) -> None:
    """Live once in this process: what is imported and computed once is then no part of any kill."""
    shutil.copytree(template, directory)
    live(directory)
    restart(directory)
    shutil.rmtree(directory)


def main(directory: Path, variant: str, stride: int, until: str = "") -> None:
    """Kill before every `stride`-th call until the run is through, or disproves what `until` is."""
    setattr(Site, "_release", VARIANTS[variant])  # noqa: B010 (a broken variant is the point)
    make_job()
    template = directory / "template"
    template.mkdir(parents=True)
    in_child(lambda: prepare(template))
    warm_up(template, directory / "warm")
    try:
        for number in count(1, stride):
            if not kill_once(template, directory / str(number), number, until=until):
                break
    except ForbiddenError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
