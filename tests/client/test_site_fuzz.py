import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from broken_sites import PLANTED
from hostile import RUNS, change_somewhere, draft_of, mutate, read_draft, sign_draft
from hostile_files import PARSERS, Parser, broken_parser, change_text, read_hostile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_site import MOMENTS_JOB, evaluate, make_job, round_plan
from watched_site import WatchedSite, seeds

from sordino_protocols.messages import Message

TESTS = Path(__file__).parents[1]
RESTART = "restart"
REQUESTS = (
    *("recall", "inquire", "admit", "admit another", "inquire another", "measure", "round"),
    *("second round", "round of another", "evaluate", "evaluate another", "settle"),
    "settle another",
)

lives = st.lists(
    st.tuples(st.sampled_from([*REQUESTS, RESTART]), st.integers(0, 2), st.randoms()),
    max_size=25,
)
"""What a site may meet: requests in any order, each changed up to twice, and crashes in between."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedSite]:
    site = WatchedSite(tmp_path_factory.mktemp("watched") / "site")
    yield site
    site.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(life=lives, honest_first=st.booleans())
def test_no_sequence_of_messages_crashes_a_site_or_gets_a_release_for_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    life: list[tuple[str, int, Random]],
    honest_first: bool,  # noqa: FBT001 (drawn)
) -> None:
    site = WatchedSite(tmp_path_factory.mktemp("life") / "site")
    drafts = seeds(site.made)
    try:
        for name in ("admit", "admit another") if honest_first else ():
            assert site.ask_draft(drafts[name]) == []
        for name, changes, rng in life:
            if name == RESTART:
                site.restart()
                continue
            draft = drafts[name]
            for _ in range(changes):
                draft = mutate(draft, rng)
            assert site.ask_draft(draft) == []
        assert site.made.ledger.verify() == site.made.ledger.length
    finally:
        site.close()


def test_the_requests_are_all_that_a_server_may_ask(watched: WatchedSite) -> None:
    assert set(seeds(watched.made)) == set(REQUESTS)
    assert {draft.kind for draft in seeds(watched.made).values()} == {
        *("recall", "inquire", "admit", "measure", "round_plan", "evaluate", "settle")
    }


@settings(max_examples=150, deadline=None)
@given(garbage=st.binary(max_size=400) | st.binary(max_size=300).map(lambda tail: b"SRDN" + tail))
def test_bytes_that_nobody_signed_are_refused(watched: WatchedSite, garbage: bytes) -> None:
    releases = dict(watched.releases)
    assert watched.ask(garbage) == []
    assert watched.releases == releases


@settings(max_examples=100, deadline=None)
@given(changes=st.integers(1, 4), rng=st.randoms(), run_id=st.sampled_from(RUNS))
def test_a_job_that_a_submitter_means_badly_is_priced_or_refused(
    watched: WatchedSite, changes: int, rng: Random, run_id: str
) -> None:
    draft = seeds(watched.made)["admit"]
    job = draft.fields["job"]
    assert isinstance(job, dict)
    body = json.loads(str(job["body"]))
    for _ in range(changes):
        body = change_somewhere(body, rng)
    spelled = json.dumps(body, sort_keys=True, separators=(",", ":"))
    hostile = type(draft)(
        draft.kind,
        {"run_id": run_id, "job": {**job, "body": spelled, "nonce": rng.randbytes(16).hex()}},
        job_signed_by="scientist",
    )
    assert watched.ask_draft(hostile) == []


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(REQUESTS), changes=st.integers(0, 3), rng=st.randoms())
def test_what_a_fuzzer_keeps_is_what_it_sent(
    watched: WatchedSite, name: str, changes: int, rng: Random
) -> None:
    draft = seeds(watched.made)[name]
    for _ in range(changes):
        draft = mutate(draft, rng)
    kept = read_draft(draft.to_bytes())
    assert kept is not None
    assert sign_draft(kept, watched.signers) == sign_draft(draft, watched.signers)


def test_a_draft_that_nobody_changed_is_what_the_server_sends(watched: WatchedSite) -> None:
    for message in (watched.made.admit(), round_plan(), evaluate()):
        draft = draft_of(message, watched.made.server)
        assert sign_draft(draft, watched.signers) == watched.made.seal(message)


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        ("raises", "the site raised IndexError"),
        ("charges nothing", "a release left that was not charged"),
        ("releases twice", "a second, different release"),
    ],
)
def test_a_site_with_a_bug_is_found_out(tmp_path: Path, planted: str, expected: str) -> None:
    site = WatchedSite(tmp_path / "site", PLANTED[planted])
    messages: list[Message] = [site.made.admit(), round_plan(), round_plan(2), evaluate()]
    messages += [evaluate(), round_plan(-1)]
    found = [problem for each in messages for problem in site.ask(site.made.seal(each))]
    site.close()
    assert any(problem.startswith(expected) for problem in found), found


def test_a_site_without_a_bug_has_none_of_these(tmp_path: Path) -> None:
    site = WatchedSite(tmp_path / "site")
    messages: list[Message] = [site.made.admit(), round_plan(), round_plan(2), evaluate()]
    messages += [evaluate(), round_plan(-1), site.made.admit("run-2", make_job(MOMENTS_JOB))]
    assert [site.ask(site.made.seal(each)) for each in messages] == [[]] * len(messages)
    assert len(site.releases) == 3
    site.close()


@pytest.mark.parametrize("name", sorted(PARSERS))
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.integers(0, 4), rng=st.randoms())
def test_a_file_that_somebody_got_wrong_is_refused_with_a_reason(
    tmp_path: Path, name: str, changes: int, rng: Random
) -> None:
    parser = PARSERS[name]
    content = rng.choice(list(parser.examples()))
    for _ in range(changes):
        content = change_text(content, rng)
    outcome, problems = read_hostile(parser, content, tmp_path)
    assert problems == []
    assert outcome == "read" or changes > 0


@pytest.mark.parametrize("name", sorted(PARSERS))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200))
def test_a_file_of_any_bytes_is_refused_with_a_reason(
    tmp_path: Path, name: str, content: bytes
) -> None:
    assert read_hostile(PARSERS[name], content, tmp_path)[1] == []


def test_a_parser_that_falls_over_is_found_out(tmp_path: Path) -> None:
    parser: Parser = broken_parser()[1]
    content = parser.examples()[0].replace(b"rounds", b"round")
    assert read_hostile(parser, content, tmp_path) == ("raised", ["raised KeyError: 'planted'"])


@pytest.mark.system
@pytest.mark.parametrize(
    ("target", "planted", "expected"),
    [
        ("site", "charges nothing", "a release left that was not charged"),
        ("files", "raises", "job raised KeyError"),
    ],
)
def test_the_coverage_guided_fuzzer_finds_a_planted_bug(
    tmp_path: Path, target: str, planted: str, expected: str
) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris has no wheel for this platform")
    command = [sys.executable, str(TESTS / "fuzzing.py"), str(tmp_path), target, "1500", "1"]
    subprocess.run([*command, planted], check=True, capture_output=True, timeout=600)
    problems = json.loads((tmp_path / "found.json").read_text())["problems"]
    assert any(problem.startswith(expected) for problem in problems), problems
