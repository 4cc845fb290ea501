"""A server whose disk is full, or whose store is broken: the run waits, says why, and goes on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from federation import JOB, Federation, make_job
from full_disk import SmallDisk, small_disk
from unruly import asked, held, requests, rounds_of

from sordino_protocols.errors import IntegrityError
from sordino_protocols.messages import Evaluate, Message, RoundPlan, Settle
from sordino_protocols.rounds import RunState
from sordino_server.coordinator import Coordinator
from sordino_server.local_grid import Answerer
from sordino_server.perseverance import Perseverance
from sordino_server.questions import RunFailedError
from sordino_server.runs import RunDirectory, Runs

ALL = JOB.replace("quorum = 2", "quorum = 3")


@dataclass
class Waiting:
    """Sleeps that cost no time; after so many of them somebody mends what is broken."""

    mend: Callable[[], None]
    after: int
    slept: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) == self.after:
            self.mend()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """The server's; the sites have theirs."""
    with small_disk(tmp_path / "server", megabytes=2) as mounted:
        yield mounted


@pytest.fixture
def federation(tmp_path: Path, disk: SmallDisk) -> Iterator[Federation]:
    (tmp_path / "sites").mkdir()
    running = Federation(tmp_path / "sites")
    running.runs = Runs(disk.path / "runs")
    yield running
    running.close()


def filling(
    federation: Federation, name: str, disk: SmallDisk, kind: type[Message], *, room: int
) -> Answerer:
    """A site during whose answer the server's disk runs full, of the rounds in the second."""
    is_done = False

    def answer(envelope: bytes) -> bytes:
        nonlocal is_done
        reply = federation.sites[name].answer(envelope)
        message = asked(federation, envelope)
        is_second = not isinstance(message, RoundPlan) or message.round == 2
        if isinstance(message, kind) and is_second and not is_done:
            disk.fill(room=room)
            is_done = True
        return reply

    return answer


def hindrances(run: RunDirectory) -> list[str]:
    return [str(each["reason"]) for each in run.events() if each["event"] == "hindered"]


@pytest.mark.parametrize("kind", [RoundPlan, Evaluate, Settle])
@pytest.mark.parametrize("room", [0, 4096])
def test_a_full_disk_of_the_server_is_waited_for_and_costs_nobody_anything(
    federation: Federation, disk: SmallDisk, kind: type[Message], room: int
) -> None:
    run = federation.submit(make_job(ALL))
    grid = federation.grid({"c": filling(federation, "c", disk, kind, room=room)})
    waiting = Waiting(disk.clear, after=3)
    Coordinator(run, federation.strategy(grid), federation.heads, sleep=waiting).execute()
    assert run.state() is RunState.DONE
    assert waiting.slept[:3] == [1.0, 2.0, 4.0]
    (reason,) = hindrances(run)
    assert "No space left on device" in reason
    assert {each["round"] for each in rounds_of(run)} == {1, 2, 3}
    for name, site in federation.sites.items():
        # Asked again with the same bytes: paid once.
        assert site.ledger.steps(run.run_id) == ("round-1", "round-2", "round-3", "evaluation")
        again = requests(federation, name, kind)
        assert len(again) > len(set(again)) or room > 0
    assert held(federation) == 0


def test_a_disk_that_nobody_mends_ends_the_run_when_its_patience_is_over(
    federation: Federation,
) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def work() -> None:
        raise OSError(28, "No space left on device")

    run = federation.submit()
    patience = Perseverance(run, patience_seconds=100, clock=lambda: now, sleep=sleep)
    with pytest.raises(RunFailedError, match=r"nobody mended it: .*No space left"):
        patience.persevere(work)
    assert 100 < now < 200


def test_trouble_after_progress_is_waited_for_anew(federation: Federation) -> None:
    now, done = 0.0, 0

    def sleep(_seconds: float) -> None:
        nonlocal now
        now += 70

    def work() -> None:
        nonlocal done
        done += 1
        if done == 3:
            run.record("state", state=RunState.ADMITTING.value)
        if done < 5:
            raise IntegrityError("a head was edited")

    run = federation.submit()
    Perseverance(run, patience_seconds=100, clock=lambda: now, sleep=sleep).persevere(work)
    assert done == 5
    # Said once, however often it is met.
    assert hindrances(run) == ["a head was edited"]


def test_a_broken_memory_of_heads_is_named_and_mended(
    federation: Federation, tmp_path: Path
) -> None:
    federation.coordinator(federation.submit(make_job(ALL.replace("= 4\n", "= 1\n")))).execute()
    run = federation.submit(make_job(ALL.replace("= 4\n", "= 1\n")))
    path = tmp_path / "sites" / "heads" / "b.json"
    kept = path.read_bytes()
    path.write_text("{")

    def mend() -> None:
        path.write_bytes(kept)

    waiting = Waiting(mend, after=2)
    Coordinator(run, federation.strategy(), federation.heads, sleep=waiting).execute()
    assert run.state() is RunState.DONE
    (reason,) = hindrances(run)
    assert "b.json" in reason


def test_what_failed_by_itself_is_not_tried_again(federation: Federation) -> None:
    attempts = 0

    def work() -> None:
        nonlocal attempts
        attempts += 1
        raise RunFailedError("too few sites")

    with pytest.raises(RunFailedError, match="too few"):
        Perseverance(federation.submit(), patience_seconds=100).persevere(work)
    assert attempts == 1
