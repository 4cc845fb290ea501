"""A site that is asked anything, and what must hold of each of its answers.

What must hold, whatever comes: it never raises; every answer is sealed by the site; no answer says
`internal`, which is how a bug of ours looks from outside; a release that leaves was reserved and
committed on disk, and is the only one of its run and step; what is spent and held stays within the
limit; what was spent stays spent; no answer has a canary; the status can be read.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import structlog
import torch
from hostile import Draft, draft_of, sign_draft
from one_site import (
    DATASET,
    MOMENTS_JOB,
    NAME,
    OneSite,
    evaluate,
    find_canary,
    make_job,
    measure,
    round_plan,
    settle,
)
from structlog.typing import EventDict, WrappedLogger

from sordino_client.ledger import read_entries
from sordino_protocols.errors import IntegrityError, SordinoError
from sordino_protocols.heads import sign_head
from sordino_protocols.messages import (
    Evaluation,
    Inquire,
    Message,
    Recall,
    Refusal,
    Refused,
    Statistics,
    Update,
)
from sordino_protocols.signing import Signer, TrustStore, load_public_key, load_signer
from sordino_protocols.wire import open_sealed

Answer = Callable[[bytes], bytes]
_ROUNDING = 1e-9
_REMEMBERED = 2000


@dataclass
class WatchedSite:
    """A real site below `directory`, started, and everything that it was seen to do.

    Attributes:
        directory: where it lives.
        broken: makes a broken site's way to answer from the right one; None leaves it right.
        asked: messages so far.
        answers: how often each kind of answer came, refusals by their enum.
        releases: SHA-256 of every release that left, by run and step.
        uncharged: releases that left without a reservation and a commit on disk.
        spent: the most that was ever spent.
    """

    directory: Path
    broken: Callable[["WatchedSite"], Answer] | None = None
    asked: int = 0
    uncharged: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    releases: dict[tuple[str, str], str] = field(default_factory=dict)
    spent: float = 0.0

    def __post_init__(self) -> None:
        self.made = OneSite(self.directory)
        self.made.prepare()
        self._why = ""
        self._length = -1
        self._opened: dict[bytes, Message] = {}
        self._paid: set[tuple[str, str]] = set()
        self.restart()

    def restart(self) -> None:
        """Stop the site and start it again."""
        self.made.open()
        structlog.configure(processors=[self._note])
        torch.set_num_threads(1)
        key = load_public_key(self.directory / "keys" / f"{NAME}.pub")
        self._trust = TrustStore({NAME: key})
        self.signers: dict[str, Signer] = {
            "server": self.made.server,
            "scientist": self.made.submitter,
            "site": load_signer(self.made.config.site.signing_key, NAME),
        }
        self.answer = self.made.site.answer if self.broken is None else self.broken(self)

    def close(self) -> None:
        """Stop the site."""
        self.made.close()
        structlog.reset_defaults()

    def ask(self, envelope: bytes) -> list[str]:
        """Send one message; what is wrong with how the site took it."""
        self.asked += 1
        self._why = ""
        try:
            reply = self.answer(envelope)
            message = self._read(reply)
        except SordinoError as error:
            return [f"the answer is not sealed as it must be: {error}"]
        except Exception as error:  # noqa: BLE001 (whatever it is, it is what is looked for)
            return [f"the site raised {type(error).__name__}: {error}"]
        self._count(message)
        found = [*self._of_release(message, reply), *self._of_state()]
        if isinstance(message, Refused) and message.refusal is Refusal.INTERNAL:
            found.append(f"a bug was hidden behind `internal`: {self._why}")
        return found

    def ask_draft(self, draft: Draft) -> list[str]:
        """Sign a draft as it says, and send it."""
        return self.ask(sign_draft(draft, self.signers))

    def _read(self, reply: bytes) -> Message:
        """Open an answer. Most are refusals that came before, bit by bit the same."""
        known = self._opened.get(reply)
        if known is None:
            known = open_sealed(reply, self._trust).message
            if find_canary(reply):
                raise IntegrityError("an answer has a canary")
            if len(self._opened) < _REMEMBERED:
                self._opened[reply] = known
        return known

    def _count(self, message: Message) -> None:
        name = message.refusal.value if isinstance(message, Refused) else type(message).__name__
        self.answers[name] = self.answers.get(name, 0) + 1

    def _of_release(self, message: Message, reply: bytes) -> list[str]:
        step = _step(message)
        if step is None:
            return []
        key, digest = (message.run_id, step), sha256(reply).hexdigest()
        known = self.releases.setdefault(key, digest)
        if known != digest:
            return [f"a second, different release for {key}"]
        if key in self._paid:
            return []
        self._paid.add(key)
        paid = {
            entry["kind"]
            for entry in read_entries(self.made.config.ledger_path)
            if (entry.get("run_id"), entry.get("step")) == key
        }
        if paid != {"reserve", "commit"}:
            self.uncharged += 1
            return [f"a release left that was not charged: {key}"]
        return []

    def _of_state(self) -> list[str]:
        """What is wrong with budget and status, looked at when the ledger grew."""
        if self.made.ledger.length == self._length:
            return []
        self._length = self.made.ledger.length
        try:
            json.dumps(self.made.site.status(), allow_nan=False)
            balance = self.made.site.balances()[DATASET]
        except (SordinoError, ValueError, TypeError, KeyError) as error:
            return [f"the status cannot be read: {error!r}"]
        found = []
        if balance.spent < self.spent - _ROUNDING:
            found.append("what was spent was given back")
        if balance.spent + balance.held > balance.limit * (1 + _ROUNDING):
            found.append("more was spent or held than the limit")
        self.spent = max(self.spent, balance.spent)
        return found

    def _note(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """Keep why the site refused, and print nothing."""
        self._why = str(event.get("reason", ""))
        raise structlog.DropEvent


def _step(message: Message) -> str | None:
    """Which release of its run a reply is; None if it says declared facts."""
    match message:
        case Statistics():
            return "statistics"
        case Update(round=number):
            return f"round-{number}"
        case Evaluation():
            return "evaluation"
        case _:
            return None


def seeds(made: OneSite) -> Mapping[str, Draft]:
    """A draft of every kind of request, for two runs, each as an honest server sends it."""
    moments = make_job(MOMENTS_JOB)
    site = load_signer(made.config.site.signing_key, NAME)
    head = sign_head(site, length=0, hash="0" * 64)
    signed = made.admit("run-2", moments).job
    messages: dict[str, Message] = {
        "recall": Recall("run-1", head),
        "inquire": Inquire("run-1", made.admit().job),
        "admit": made.admit(),
        "admit another": made.admit("run-2", moments),
        "inquire another": Inquire("run-2", signed),
        "measure": measure(run_id="run-2"),
        "round": round_plan(),
        "second round": round_plan(2),
        "round of another": round_plan(run_id="run-2", job=moments),
        "evaluate": evaluate(),
        "evaluate another": evaluate(run_id="run-2", job=moments),
        "settle": settle(),
        "settle another": settle(run_id="run-2", job=moments),
    }
    return {name: draft_of(message, made.server) for name, message in messages.items()}
