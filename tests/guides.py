"""Guides as they are read: blocks of commands, the hosts they are typed on, what they answer.

A guide's blocks are fenced. ```console blocks hold commands, each behind the prompt of its host
(`server#`, `site#`, `ada$`), with what it prints below; `…` stands for anything. ```toml and
```ini blocks that begin with `# /path` are files. What belongs to the story has `step=N`: the
blocks of all guides, in the order of their steps, lead from nothing to a running federation.

Hosts are directories here: the paths of the guides (`/etc/sordino`) become paths below them, and
each host has a shell of its own, in which variables and background processes last.
"""

import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"^(\w+)[#$] (.*)$")
_STEP = re.compile(r"\bstep=(\d+)\b")
_HOST = re.compile(r"\bhost=(\w+)\b")
_TOLD = re.compile(r"fingerprint ((?:[0-9a-f]{4}:)+[0-9a-f]{4})")
_END = "--- the command ended with"


@dataclass(frozen=True, slots=True)
class Command:
    """A line that somebody types.

    Attributes:
        host: where.
        text: what; several lines are one command.
        expected: what must be printed, line by line, with other lines between them.
        place: guide and line, for whoever has to mend it.
    """

    host: str
    text: str
    expected: tuple[str, ...]
    place: str


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that somebody writes."""

    host: str
    path: str
    content: str
    place: str


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `step` is None where the story has it elsewhere."""

    step: int | None
    parts: tuple[Command | WrittenFile, ...]


def blocks(guide: Path) -> list[Block]:
    """Every block of a guide that is typed or written, in its order."""
    text = guide.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        language, info, body = fence.groups()
        step = _STEP.search(info)
        number = None if step is None else int(step.group(1))
        line = text.count("\n", 0, fence.start()) + 2
        if language == "console":
            found.append(Block(number, _commands(body, guide.name, line)))
        elif host := _HOST.search(info):
            path = body.partition("\n")[0].removeprefix("# ")
            file = WrittenFile(host.group(1), path, body, f"{guide.name}:{line}")
            found.append(Block(number, (file,)))
    return found


def story(guides: Sequence[Path]) -> list[Command | WrittenFile]:
    """What has to be done, in the order of the steps."""
    steps = [each for guide in guides for each in blocks(guide) if each.step is not None]
    return [
        part for block in sorted(steps, key=lambda each: each.step or 0) for part in block.parts
    ]


def _commands(body: str, guide: str, line: int) -> tuple[Command, ...]:
    commands: list[Command] = []
    for number, text in enumerate(body.splitlines(), start=line):
        if prompt := _PROMPT.match(text):
            host, typed = prompt.groups()
            commands.append(Command(host, typed, (), f"{guide}:{number}"))
            continue
        last = commands.pop()
        if last.text.endswith("\\"):
            last = Command(last.host, f"{last.text}\n{text}", (), last.place)
        elif text:
            last = Command(last.host, last.text, (*last.expected, text), last.place)
        commands.append(last)
    return tuple(commands)


@dataclass
class Host:
    """A shell on a host of its own.

    Attributes:
        name: of its prompt.
        paths: what stands for the paths of the guides here.
        variables: of the environment, beside a few of this process's.
    """

    name: str
    paths: Mapping[str, str]
    variables: Mapping[str, str]
    transcript: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._shell = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(self.variables),
            start_new_session=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGTERM)
        give_up_at = time.monotonic() + 60
        # The shell is ours to end as well; its processes get time to end in order.
        while self._has_others() and time.monotonic() < give_up_at:
            time.sleep(0.1)
        self._signal(signal.SIGKILL)
        self._shell.wait()

    def run(self, text: str, *, seconds: float) -> tuple[int, str]:
        """Run a command as the guide has it. Returns its exit code and what it printed."""
        typed = self.placed(text)
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{{ {typed}\n}} < /dev/null\nprintf '\\n{_END} %d\\n' $?\n")
        self._shell.stdin.flush()
        printed: list[str] = []
        give_up_at = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, give_up_at - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{typed}: no end after {seconds} s: {printed}") from None
            if line.startswith(_END):
                output = "".join(printed)
                self.transcript.append(f"{self.name}# {typed}\n{output}")
                return int(line.removeprefix(_END)), output
            printed.append(line)

    def tell(self, fingerprint: str) -> None:
        """Somebody reads a fingerprint to whoever sits here."""
        self.run(f"TOLD={fingerprint}", seconds=30)

    def write(self, file: WrittenFile) -> None:
        """Put a file where the guide says."""
        path = Path(self.placed(file.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.placed(file.content), encoding="utf-8")

    def placed(self, text: str) -> str:
        """A guide's text with the paths and names that are true here."""
        for guides, ours in sorted(self.paths.items(), key=lambda each: -len(each[0])):
            text = text.replace(guides, ours)
        return text

    def _read(self) -> None:
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            self._lines.put(line)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._processes() if number != signal.SIGKILL else ():
            os.kill(pid, number)
        if number == signal.SIGKILL:
            os.killpg(self._shell.pid, number)

    def _processes(self) -> list[int]:
        """What the shell itself started and that still runs; those end what they started."""
        children = Path(f"/proc/{self._shell.pid}/task/{self._shell.pid}/children")
        return [int(each) for each in children.read_text().split()]

    def _has_others(self) -> bool:
        return bool(self._processes())


def perform(
    parts: Sequence[Command | WrittenFile], hosts: Mapping[str, Host], *, seconds: float = 600.0
) -> None:
    """Do everything that a story says, and check what is answered.

    Raises:
        AssertionError: a command failed, or said something else than its guide.
    """
    for part in parts:
        host = hosts[part.host]
        if isinstance(part, WrittenFile):
            host.write(part)
            continue
        code, output = host.run(part.text, seconds=seconds)
        assert code == 0, f"{part.place}: {part.text}: exit code {code}\n{output}"
        missing = unanswered([host.placed(each) for each in part.expected], output)
        assert missing is None, f"{part.place}: {part.text}: no line {missing!r} in\n{output}"
        if told := _TOLD.findall(output):
            for each in hosts.values():
                each.tell(told[-1])


def unanswered(expected: Sequence[str], output: str) -> str | None:
    """The first expected line that was not printed, in this order; None if all were."""
    printed = iter([" ".join(line.split()) for line in output.splitlines()])
    for line in expected:
        words = " ".join(line.split())
        pattern = ".*".join(re.escape(part.strip()) for part in words.split("…"))
        if not any(re.fullmatch(pattern, each) for each in printed):
            return line
    return None
