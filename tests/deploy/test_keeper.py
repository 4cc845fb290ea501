"""The keeper: what ends is started again, ever more rarely while it keeps ending."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sordino_deploy.keeper import Keeper, Pauses
from sordino_deploy.processes import Child, Supervisor

PAUSES = Pauses(first_seconds=1.0, longest_seconds=4.0, good_seconds=60.0)


class Hand:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Program:
    """Starts a process that sleeps, and counts how often."""

    def __init__(self, supervisor: Supervisor, log: Path, name: str = "x") -> None:
        self.supervisor, self.log, self.name = supervisor, log, name
        self.starts = 0

    def __call__(self) -> Child:
        self.starts += 1
        argv = [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]
        return self.supervisor.start(self.name, argv, env=dict(os.environ), log=self.log)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as running:
        yield running


def kill(supervisor: Supervisor, child: Child) -> None:
    """Kill it, and wait until it is dead without collecting it."""
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not supervisor.is_running(child)


def test_what_ends_is_started_again_after_a_pause(supervisor: Supervisor, tmp_path: Path) -> None:
    clock, program = Hand(), Program(supervisor, tmp_path / "log")
    keeper = Keeper(supervisor, pauses=PAUSES, clock=clock)
    first = program()
    keeper.keep(first, program)
    keeper.look()
    assert keeper.child("x") == first
    kill(supervisor, first)
    keeper.look()
    assert program.starts == 1
    clock.seconds += 1.0
    keeper.look()
    second = keeper.child("x")
    assert second.pid != first.pid
    assert supervisor.is_running(second)


def pauses_of(clock: Hand, program: Program, keeper: Keeper, *, ends: int, ran: float) -> list[int]:
    """How many seconds a program stayed away after each of some ends."""
    pauses = []
    for _ in range(ends):
        clock.seconds += ran
        kill(program.supervisor, keeper.child("x"))
        keeper.look()
        starts, seconds = program.starts, 0
        while program.starts == starts:
            seconds += 1
            clock.seconds += 1
            keeper.look()
        pauses.append(seconds)
    return pauses


def test_the_pauses_grow_to_a_limit_and_are_short_again_after_a_good_while(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    clock, program = Hand(), Program(supervisor, tmp_path / "log")
    keeper = Keeper(supervisor, pauses=PAUSES, clock=clock)
    keeper.keep(program(), program)
    assert pauses_of(clock, program, keeper, ends=4, ran=1.0) == [1, 2, 4, 4]
    assert pauses_of(clock, program, keeper, ends=2, ran=60.0) == [1, 1]
    assert pauses_of(clock, program, keeper, ends=2, ran=1.0) == [2, 4]


def test_one_that_stays_away_holds_up_no_other(supervisor: Supervisor, tmp_path: Path) -> None:
    clock = Hand()
    programs = [Program(supervisor, tmp_path / name, name) for name in ("a", "b")]
    keeper = Keeper(supervisor, pauses=PAUSES, clock=clock)
    for program in programs:
        keeper.keep(program(), program)
    for _ in range(3):
        kill(supervisor, keeper.child("a"))
        keeper.look()
        clock.seconds += PAUSES.longest_seconds
        keeper.look()
    kill(supervisor, keeper.child("a"))
    kill(supervisor, keeper.child("b"))
    keeper.look()
    clock.seconds += PAUSES.first_seconds
    keeper.look()
    assert [program.starts for program in programs] == [4, 2]


def test_one_that_was_let_go_stays_as_it_is(supervisor: Supervisor, tmp_path: Path) -> None:
    clock, program = Hand(), Program(supervisor, tmp_path / "log")
    keeper = Keeper(supervisor, pauses=PAUSES, clock=clock)
    child = program()
    keeper.keep(child, program)
    keeper.let_go("x")
    kill(supervisor, child)
    clock.seconds += 100
    keeper.look()
    assert program.starts == 1


def test_what_dies_while_somebody_works_is_back_before_the_work_ends(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    program = Program(supervisor, tmp_path / "log")
    keeper = Keeper(supervisor, pauses=Pauses(first_seconds=0.0))
    first = program()
    keeper.keep(first, program)

    def work() -> int:
        os.kill(first.pid, signal.SIGKILL)
        while keeper.child("x") == first:
            pass
        return keeper.child("x").pid

    assert keeper.keep_while(work) == keeper.child("x").pid


def test_what_the_work_raises_comes_out(supervisor: Supervisor) -> None:
    def work() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        Keeper(supervisor).keep_while(work)
