import os
import subprocess
import sys
from pathlib import Path

import ptrace
import pytest
from pydantic import BaseModel, ConfigDict
from syscalls import COMPLETE, KILLS, PAID, STEPS, Disk, Restarted, Told, problems

pytestmark = pytest.mark.system

SCRIPT = Path(__file__).parents[1] / "syscalls.py"


class Kill(BaseModel):
    """One kill: where it fell, what lay on disk then, and which promises it disproves."""

    model_config = ConfigDict(extra="forbid")

    kill: int
    lived: bool
    call: int | None
    entries: int
    stored: list[str]
    problems: list[str]


@pytest.fixture(scope="module", autouse=True)
def _may_trace() -> None:
    forbidden = ptrace.why_forbidden()
    if forbidden is not None:
        pytest.skip(forbidden)


def kill_everywhere(directory: Path, variant: str, *, stride: int, until: str = "") -> list[Kill]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(directory), variant, str(stride), until],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Kill.model_validate_json(line) for line in (directory / KILLS).read_text().splitlines()]


def test_a_site_killed_between_any_two_system_calls_keeps_every_promise(tmp_path: Path) -> None:
    kills = kill_everywhere(tmp_path, "right", stride=11)
    assert not [each for each in kills if each.problems]
    assert [each.lived for each in kills[-2:]] == [False, True]
    # The kills fell before and after everything that a release puts on disk.
    seen = {(each.entries, PAID in each.stored) for each in kills if 1 <= each.entries < 4}
    assert seen == {(1, False), (2, False), (2, True), (3, True)}


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("pay_too_late", "a release was stored that was not paid for"),
        ("store_nothing", "one step has several releases"),
    ],
)
def test_a_site_that_breaks_a_promise_is_found_out(
    tmp_path: Path, variant: str, expected: str
) -> None:
    kills = kill_everywhere(tmp_path, variant, stride=12, until=expected)
    assert expected in [problem for each in kills for problem in each.problems]


def make_facts(
    *,
    told: tuple[Told, ...] = (Told("admission", "a", 0.0), Told(PAID, "b", 1.0)),
    entries: tuple[str, ...] = COMPLETE[:3],
    spent: tuple[float, float] = (1.0, 1.0),
    again: str = "b",
    after: tuple[str, ...] = COMPLETE,
) -> tuple[tuple[Told, ...], Disk, Restarted, Disk]:
    answers = dict(zip(STEPS, "abc", strict=True))
    came = {**{step: [answer] * 2 for step, answer in answers.items()}, PAID: ["b", again]}
    before = Disk(entries, {step: answers[step] for step in STEPS[:2]})
    restarted = Restarted(*spent, held=0.0, verified=len(COMPLETE), again=came)
    return told, before, restarted, Disk(after, answers)


def test_a_kill_that_disproves_nothing_has_no_problem() -> None:
    assert problems(*make_facts()) == []


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (make_facts(entries=COMPLETE[:1]), "a release was stored that was not paid for"),
        (make_facts(entries=COMPLETE[:2]), "a release was sent before it was committed"),
        (make_facts(told=(Told("receipt", "c", 1.0),)), "an answer was sent before it was stored"),
        (make_facts(spent=(0.5, 1.0)), "what was spent was given back"),
        (make_facts(spent=(1.0, 0.5)), "what was spent was given back"),
        (make_facts(spent=(1.0, 8.5)), "more was spent than the limit"),
        (
            make_facts(after=(*COMPLETE, COMPLETE[1])),
            "something was charged for twice or never",
        ),
        (make_facts(again="d"), "one step has several releases"),
        (make_facts(after=COMPLETE[:3]), "the chain does not verify"),
    ],
)
def test_every_promise_can_be_disproved(
    facts: tuple[tuple[Told, ...], Disk, Restarted, Disk], expected: str
) -> None:
    assert expected in problems(*facts)


def test_a_child_is_killed_before_the_call_and_not_after_it(tmp_path: Path) -> None:
    file = tmp_path / "written"

    def write_three() -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        ptrace.begin()
        for letter in b"abc":
            os.write(descriptor, bytes([letter]))
        ptrace.end()

    written = []
    for number in range(1, 5):
        traced = ptrace.run_traced(write_three, kill_before=number)
        written.append((traced.lived, traced.calls, file.read_bytes()))
    assert written == [
        (False, 1, b""),
        (False, 2, b"a"),
        (False, 3, b"ab"),
        (True, 3, b"abc"),
    ]
