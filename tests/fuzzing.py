"""Ask a site whatever a coverage-guided fuzzer comes upon, and write down what went wrong.

Run as `python fuzzing.py DIRECTORY TARGET COUNT SEED [PLANTED]`; writes `DIRECTORY/found.json`.
TARGET "site" sends messages to a real site: the fuzzer (atheris, libFuzzer) keeps those drafts that
reach new lines of ours, changes them as `hostile` does, and the harness signs them. TARGET "files"
gives text to whatever reads a file that a person or a server wrote. PLANTED makes a bug of that
name, to show that this finds one.
"""

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(
    include=["sordino_protocols", "sordino_client"],
    # What computes on records has no decisions in it, and compiled steps are not to be changed.
    exclude=["sordino_client.training"],
):
    import hostile
    from broken_sites import PLANTED
    from hostile import Draft, read_draft
    from hostile_files import PARSERS, broken_parser, change_text, read_hostile
    from one_site import JOB, MOMENTS_JOB, evaluate, make_job, measure, round_plan, settle
    from watched_site import WatchedSite, seeds

    from sordino_protocols.errors import SordinoError
    from sordino_protocols.job import Job
    from sordino_protocols.messages import Evaluate, Message, RoundPlan, Tabulate, Unmask

RESULT = "found.json"
_MESSAGES_A_SITE = 500
"""After so many a new site begins, so that budget and run ids do not run out for good."""
_WRITE_EVERY = 500
_LARGEST_INPUT = 1 << 16
_LARGEST_WEIGHTS = 4096


class Found:
    """What was found so far, on disk every now and then."""

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._count = path, count
        self.tried, self.uncharged = 0, 0
        self.problems: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.outcomes: Counter[str] = Counter()

    def note(self, problems: list[str], data: bytes) -> None:
        """Count one input; ends the process when there were enough."""
        self.tried += 1
        for problem in problems:
            self.problems[problem] += 1
            self.examples.setdefault(problem, data[:8192].hex())
        if problems or self.tried % _WRITE_EVERY == 0 or self.tried >= self._count:
            self._write()
        if self.tried >= self._count:
            # libFuzzer has no way back to its caller.
            os._exit(0)

    def _write(self) -> None:
        facts = {
            "tried": self.tried,
            "uncharged": self.uncharged,
            "problems": self.problems,
            "examples": self.examples,
            "outcomes": self.outcomes,
        }
        aside = self._path.with_suffix(".new")
        aside.write_text(json.dumps(facts, indent=1))
        aside.rename(self._path)


class SiteTarget:
    """A site that is asked one message after the other, and made anew now and then."""

    def __init__(self, directory: Path, found: Found, planted: str) -> None:
        self._directory, self._found = directory, found
        self._broken = PLANTED.get(planted)
        self._site = self._new()
        self.corpus = [draft.to_bytes() for draft in seeds(self._site.made).values()]

    def try_one(self, data: bytes) -> None:
        """Send a draft, or, if the bytes are none, the bytes themselves."""
        if self._site.asked >= _MESSAGES_A_SITE:
            self._renew()
        draft = read_draft(data)
        problems = self._site.ask(data) if draft is None else self._site.ask_draft(draft)
        self._found.uncharged += self._site.uncharged
        self._site.uncharged = 0
        if self._found.tried % _WRITE_EVERY == _WRITE_EVERY - 1:
            self._take_outcomes()
        self._found.note(problems, data)

    def mutate(self, data: bytes, largest: int, seed: int) -> bytes:
        """Another draft, signed later; now and then an envelope whose bytes are changed blindly."""
        rng = Random(seed)  # noqa: S311 (what libFuzzer says decides)
        draft = read_draft(data)
        if draft is None or rng.random() < 0.5:
            draft = self._next(rng)
        if rng.random() < 0.03:
            envelope = hostile.sign_draft(draft, self._site.signers)
            return bytes(atheris.Mutate(envelope, max(largest, len(envelope))))
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            draft = hostile.mutate(draft, rng)
        return draft.to_bytes()

    def _next(self, rng: Random) -> Draft:
        """What an honest server could send now: a message of an admitted run, or of a new one."""
        run_id = rng.choice(hostile.RUNS)
        run = self._site.made.runs.get(run_id)
        corpus = read_draft(rng.choice(self.corpus))
        assert corpus is not None
        if rng.random() < 0.2:
            return corpus
        if run is None:
            job = make_job(rng.choice([JOB, MOMENTS_JOB]))
            return hostile.draft_of(self._site.made.admit(run_id, job), self._site.made.server)
        message = _message_for(run.run_id, run.job, rng)
        return corpus if message is None else hostile.draft_of(message, self._site.made.server)

    def _new(self) -> WatchedSite:
        directory = self._directory / f"site-{self._found.tried}"
        return WatchedSite(directory, self._broken)

    def _renew(self) -> None:
        self._take_outcomes()
        self._site.close()
        shutil.rmtree(self._site.directory)
        self._site = self._new()

    def _take_outcomes(self) -> None:
        self._found.outcomes.update(self._site.answers)
        self._site.answers = {}


def _message_for(run_id: str, job: Job, rng: Random) -> Message | None:
    """A message of a run, whatever its job; None where there is none, or only a huge one."""
    number = rng.randint(1, 3)
    try:
        match rng.randrange(10):
            case 0:
                return settle(run_id=run_id, job=job)
            case 1:
                return measure(run_id=run_id, job=job)
            case 8:
                return Tabulate(run_id, job.digest())
            case 9:
                return Unmask(run_id, job.digest(), rng.choice(["", "a", "a,b", "cleveland"]))
            case 2 | 3:
                asked: RoundPlan | Evaluate = evaluate(run_id=run_id, job=job)
            case _:
                asked = round_plan(number, run_id=run_id, job=job)
    except (SordinoError, ValueError, MemoryError):
        return None
    return asked if asked.weights.size <= _LARGEST_WEIGHTS else None


class FilesTarget:
    """Whatever reads a file; nothing but our own errors may come out."""

    def __init__(self, directory: Path, found: Found, planted: str) -> None:
        self._found = found
        self._directory = directory / "file"
        self._directory.mkdir()
        self._parsers = dict(PARSERS)
        if planted:
            name, parser = broken_parser()
            self._parsers[name] = parser
        self._names = sorted(self._parsers)
        self.corpus = [
            bytes([index]) + text
            for index, name in enumerate(self._names)
            for text in self._parsers[name].examples()
        ]

    def try_one(self, data: bytes) -> None:
        """The first byte says who reads the rest."""
        name = self._names[data[0] % len(self._names)] if data else self._names[0]
        outcome, problems = read_hostile(self._parsers[name], data[1:], self._directory)
        self._found.outcomes[f"{name}: {outcome}"] += 1
        self._found.note([f"{name} {problem}" for problem in problems], data)

    def mutate(self, data: bytes, largest: int, seed: int) -> bytes:
        """Other values, keys and lines; now and then bytes changed blindly."""
        rng = Random(seed)  # noqa: S311 (what libFuzzer says decides)
        data = data if data and rng.random() < 0.8 else rng.choice(self.corpus)
        if rng.random() < 0.3:
            return bytes(atheris.Mutate(data, largest))
        return data[:1] + change_text(data[1:], rng)


def main(directory: Path, target: str, count: int, seed: int, planted: str = "") -> None:
    """Try `count` inputs; never returns."""
    directory.mkdir(parents=True, exist_ok=True)
    corpus = directory / "corpus"
    corpus.mkdir()
    found = Found(directory / RESULT, count)
    kinds: Mapping[str, type[SiteTarget | FilesTarget]]
    kinds = {"site": SiteTarget, "files": FilesTarget}
    made = kinds[target](directory, found, planted)
    for number, data in enumerate(made.corpus):
        (corpus / f"seed-{number}").write_bytes(data)
    options = [
        "-verbosity=0",
        "-cross_over=0",
        "-mutate_depth=1",
        "-timeout=60",
        "-rss_limit_mb=0",
        f"-seed={seed}",
    ]
    atheris.Setup(
        [sys.argv[0], *options, f"-max_len={_LARGEST_INPUT}", "-len_control=0", str(corpus)],
        made.try_one,
        custom_mutator=made.mutate,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
