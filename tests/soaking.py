"""A long run of many simulated sites with a little of every trouble, and what it leaves behind.

Everything is real but processes and network. Sites go away and come back, restart, are silent, and
send what no honest site would; the run goes on. What is measured is what grows: memory of the one
process that they all share, its open files, and bytes on every disk.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from federation import Federation, SmallSite, make_job
from one_site import POLICY
from small_job import job_text
from unruly import rounds_of

from sordino_protocols.errors import UnreachableError
from sordino_protocols.job import Job
from sordino_protocols.messages import RoundPlan, Update
from sordino_protocols.wire import open_sealed, seal
from sordino_server.local_grid import Answerer
from sordino_server.runs import RunDirectory

# In rounds; each site begins at another one.
_AWAY_EVERY, _SILENT_EVERY, _POISON_EVERY, _RESTART_EVERY = 11, 17, 13, 29

SOAK_POLICY = POLICY.replace("max_rounds = 50", "max_rounds = 1000")


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a soak left behind.

    Attributes:
        run: that was done.
        rounds: as its log tells them.
        kilobytes: of memory that the process holds, once a round.
        open_files: of the process, once a round.
        outbox_bytes: of all sites together.
        witness_bytes: of what they noted for audits of their own.
        ledger_bytes: of their ledgers.
        run_bytes: of the run's directory at the server.
        results: how often an answer to a round became what.
        paid: rounds that each site was charged for.
    """

    run: RunDirectory
    rounds: list[dict[str, object]]
    kilobytes: list[float]
    open_files: list[int]
    outbox_bytes: int
    witness_bytes: int
    ledger_bytes: int
    run_bytes: int
    results: Counter[str]
    paid: dict[str, int]

    def kilobytes_a_round(self) -> float:
        """How fast memory grows, by least squares over the second half: the first one warms up."""
        later = self.kilobytes[len(self.kilobytes) // 2 :]
        return float(np.polyfit(np.arange(len(later)), later, 1)[0])


LARGE = 'kind = "mlp"\nhidden = [256]\nactivation = "tanh"'
"""A model whose updates have 5 kB: whoever keeps them is seen."""


def soak_job(rounds: int, *, quorum: int, model: str) -> Job:
    """A job of so many rounds, each of which goes on soon after its quorum has answered."""
    sections = f"""
[audit]
lanes = 8
[cohort]
quorum = {quorum}
deadline_seconds = 600
grace_seconds = 0.02
"""
    return make_job(job_text(sections, rounds=rounds).replace('kind = "logistic"', model))


def soak(
    federation: Federation, *, rounds: int, quorum: int, model: str = 'kind = "logistic"'
) -> Soaked:
    """Run one job of so many rounds with all sites of a federation, and their troubles.

    Args:
        federation: all of it.
        rounds: of the job.
        quorum: of the job.
        model: of the job, in TOML.
    """
    kilobytes: list[float] = []
    open_files: list[int] = []

    def look() -> None:
        kilobytes.append(resident_kilobytes())
        open_files.append(len(list(Path("/proc/self/fd").iterdir())))

    run = federation.submit(soak_job(rounds, quorum=quorum, model=model))
    sites = list(federation.sites.values())
    answerers = {
        site.signer.name: _troubled(federation, site, place, look)
        for place, site in enumerate(sites)
    }
    federation.coordinator(run, federation.grid(answerers)).execute()
    logged = rounds_of(run)
    return Soaked(
        run,
        logged,
        kilobytes,
        open_files,
        outbox_bytes=sum(bytes_below(site.directory / "outbox") for site in sites),
        witness_bytes=sum(bytes_below(site.directory / "witness") for site in sites),
        ledger_bytes=sum((site.directory / "ledger.db").stat().st_size for site in sites),
        run_bytes=bytes_below(run.path),
        results=_results(logged),
        paid={site.signer.name: _rounds_paid(site, run.run_id) for site in sites},
    )


def resident_kilobytes() -> float:
    """Memory that this process holds now, from the kernel (VmRSS)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def bytes_below(directory: Path) -> int:
    """Bytes in all files below a directory."""
    return sum(each.stat().st_size for each in directory.rglob("*") if each.is_file())


def _troubled(
    federation: Federation, site: SmallSite, place: int, look: Callable[[], None]
) -> Answerer:
    """A site that has a trouble of its own in some rounds; never in anything but a round."""

    def answer(envelope: bytes) -> bytes | None:
        message = open_sealed(envelope, site.server).message
        if not isinstance(message, RoundPlan):
            return site.site.answer(envelope)
        if place == 0:
            look()
        turn = message.round + place
        if turn % _AWAY_EVERY == 0:
            raise UnreachableError("away")
        if turn % _SILENT_EVERY == 0:
            return None
        if turn % _RESTART_EVERY == 0:
            site.open()
        reply = site.site.answer(envelope)
        return _poisoned(federation, site, reply) if turn % _POISON_EVERY == 0 else reply

    return answer


def _poisoned(federation: Federation, site: SmallSite, reply: bytes) -> bytes:
    message = open_sealed(reply, federation.trusted_sites).message
    assert isinstance(message, Update)
    return seal(replace(message, vector=np.full_like(message.vector, 1e30)), site.signer)


def _results(logged: list[dict[str, object]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for each in logged:
        participants, rejections = each["participants"], each["rejections"]
        assert isinstance(participants, list)
        assert isinstance(rejections, dict)
        counts["accepted"] += len(participants)
        counts.update(str(why) for why in rejections.values())
    return counts


def _rounds_paid(site: SmallSite, run_id: str) -> int:
    return sum(step.startswith("round-") for step in site.ledger.steps(run_id))
