"""A site's readiness at its link: server, vault, clocks, certificates, each with its reason."""

import json
from pathlib import Path

import pytest

from sordino_client.link_health import LinkHealth
from sordino_client.server_answers import ServerAnswers
from sordino_protocols.health import Check, is_ready

DATE = "Sun, 22 Nov 2026 06:30:00 GMT"
UNIX = 1795329000.0


class Clocks:
    """A wall clock and a steady one."""

    def __init__(self) -> None:
        self.wall, self.steady = UNIX, 10.0


def answers_at(clocks: Clocks) -> ServerAnswers:
    return ServerAnswers(now=lambda: clocks.wall, steady=lambda: clocks.steady)


def health(
    status: str | None, *, answers: ServerAnswers, certificates: dict[str, Path] | None = None
) -> dict[str, Check]:
    made = LinkHealth(
        is_joined=lambda: True,
        vault_status=lambda: status,
        answers=answers,
        certificates=certificates or {},
    )
    return {each.name: each for each in made.evaluate()}


@pytest.mark.parametrize(
    ("ahead", "is_ok", "words"),
    [
        (0.0, True, "agree"),
        (4.5, True, "agree"),
        (70.0, False, "70 s ahead"),
        (-200.0, True, "agree"),
        (-300.0, False, "300 s behind"),
    ],
)
def test_a_clock_that_the_server_would_not_believe_is_found(
    ahead: float, words: str, *, is_ok: bool
) -> None:
    clocks = Clocks()
    clocks.wall += ahead
    answers = answers_at(clocks)
    answers.note(DATE)
    found = answers.check_clock()
    assert found.is_ok is is_ok
    assert words in found.detail


def test_a_server_that_falls_silent_is_found() -> None:
    clocks = Clocks()
    answers = answers_at(clocks)
    assert not answers.check_presence().is_ok
    answers.note("no date at all")
    assert answers.check_presence().is_ok
    assert answers.check_clock().is_ok
    clocks.steady += 29
    assert answers.check_presence().is_ok
    clocks.steady += 2
    assert "31 s" in answers.check_presence().detail


def test_the_vaults_own_checks_count_and_whatever_is_none_does_not() -> None:
    answers = answers_at(Clocks())
    answers.note(DATE)
    whole = {"ledger": {"ok": True, "detail": "holds"}, "policy": {"ok": False, "detail": "none"}}
    found = health(json.dumps({"checks": whole}), answers=answers)
    assert set(found) == {"server", "clock", "vault", "ledger", "policy"}
    assert found["ledger"].is_ok
    assert not found["policy"].is_ok
    for odd in ("[]", "no JSON", '{"checks": [1]}', '{"checks": {"x": 1}}'):
        found = health(odd, answers=answers)
        assert set(found) == {"server", "clock", "vault"}
        assert is_ready(tuple(found.values()))
    assert not health(None, answers=answers)["vault"].is_ok


def test_a_certificate_that_cannot_be_read_is_not_ready(tmp_path: Path) -> None:
    answers = answers_at(Clocks())
    found = health("{}", answers=answers, certificates={"ca": tmp_path / "ca.crt"})
    assert not found["certificate_ca"].is_ok
    assert "no such certificate" in found["certificate_ca"].detail
