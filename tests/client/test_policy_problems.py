"""What a policy says that cannot be meant: errors at their lines, and remarks."""

from pathlib import Path

import pytest
from one_site import POLICY
from policies import EVERY_KEY, WITH_RULES

from sordino_client.policy import Policy, parse_policy
from sordino_client.policy_problems import LIMITS, remarks
from sordino_protocols.errors import InputError


def read(text: str) -> Policy:
    return parse_policy(text, Path("/etc/sordino/policy.toml"))


@pytest.mark.parametrize(
    ("old", "new", "line", "expected"),
    [
        ("max_epsilon = 3.5", "", 0, ""),
        ('time_zone = "Europe/Zurich"\n', "", 20, "rules[1].days: needs a time zone"),
        ('time_zone = "Europe/Zurich"', 'time_zone = "Zurich"', 1, "IANA time zone"),
        ('"Europe/Zurich"', '"Europe"', 1, "IANA time zone"),
        ('"Europe/Zurich"', '"../etc/passwd"', 1, "IANA time zone"),
        ('"Europe/Zurich"', '"\\u0000"', 1, "IANA time zone"),
        ('"Europe/Zurich"', '""', 1, "IANA time zone"),
        ("approvals = 2", "approvals = 4", 24, "more than the 3 approvers"),
        ("approvals = 2", "approvals = 0", 24, "approvals: should be greater"),
        ('"bob", "carol"', '"bob", "alice"', 25, "one person is one approval"),
        ('action = "ask"', 'action = "allow"', 24, "goes with action = "),
        ('action = "ask"', 'action = "maybe"', 23, "should be 'allow', 'ask' or 'deny'"),
        ('action = "ask"', "", 22, "rules[2].action: missing"),
        (
            'submitters = ["intern"]\ndays = ["sat", "sun"]',
            "max_epsilon = 1",
            20,
            "would deny jobs that ask for less",
        ),
        (
            'submitters = ["intern"]\ndays = ["sat", "sun"]',
            'columns = ["chol"]',
            20,
            "would deny jobs that ask for less",
        ),
        ('submitters = ["scientist"]\nmax_epsilon = 1.0\n', "", 16, "never decides: rules[0]"),
        ("max_epsilon = 1.0\n", "", 0, ""),
        ('days = ["sat", "sun"]', "days = []", 21, "names nothing"),
        ('days = ["sat", "sun"]', 'days = ["sat", "sat"]', 21, "repeat"),
        ('days = ["sat", "sun"]', 'hours = "8-18"', 21, "'HH:MM-HH:MM'"),
        ('days = ["sat", "sun"]', 'hours = "08:00-08:00"', 21, "that is no time"),
        ('days = ["sat", "sun"]', "from = 2027-01-02\nuntil = 2027-01-01", 21, "no day is left"),
        ('submitters = ["intern"]', 'submitters = ["guest"]', 20, "names none that"),
        ("max_epsilon = 3.5", "min_clipping_norm = 1e7", 27, "never decides"),
        ("max_rounds = 50", "max_rounds = 50\nmin_clipping_norm = 1e7", 10, "nothing is allowed"),
        ("max_epsilon = 3.5", "max_epsilom = 3.5", 27, "did you mean 'max_epsilon'?"),
        ("max_epsilon = 3.5", "max_epsilon = 3.5\nfrom_ = 2026-01-01", 28, "unknown key"),
    ],
)
def test_what_can_never_hold_is_an_error_at_its_line(
    old: str, new: str, line: int, expected: str
) -> None:
    assert old in WITH_RULES
    text = WITH_RULES.replace(old, new)
    if not expected:
        read(text)
        return
    with pytest.raises(InputError) as caught:
        read(text)
    assert expected in str(caught.value)
    assert f"/etc/sordino/policy.toml:{line}: datasets.heart" in str(caught.value) or line == 1


@pytest.mark.parametrize("key", LIMITS)
def test_no_rule_denies_those_who_ask_for_less(key: str) -> None:
    limit = next(line for line in EVERY_KEY.splitlines() if line.startswith(f"{key} = "))
    rule = f'[[datasets.heart.rules]]\naction = "deny"\n{limit}\n'
    with pytest.raises(InputError, match=rf"heart\.rules\[0\]\.{key}: would deny jobs"):
        read(POLICY + rule)


@pytest.mark.parametrize(
    "text",
    [
        "datasets = " + "[" * 5_000,
        "datasets = " + "{a = " * 2_000 + "1" + "}" * 2_000,
        "a." * 150 + "b = 1",
        "time_zone = " + "9" * 5_000,
        "time_zone = 2026-13-45",
        "\x00",
    ],
)
def test_what_a_parser_chokes_on_is_an_error_like_any_other(text: str) -> None:
    with pytest.raises(InputError, match=r"policy\.toml"):
        read(text)


def test_an_ask_with_a_limit_before_a_broader_allow_is_remarked() -> None:
    text = WITH_RULES + '[[datasets.heart.rules]]\naction = "allow"\n'
    (remark,) = remarks(read(text).file)
    assert "a later rule allows jobs beyond it" in str(remark)
    assert not remarks(read(WITH_RULES).file)


# ---------------------------------------------------------------------- other kinds of jobs


def with_rule(cap: str, rule: str, *, action: str = "allow") -> str:
    text = POLICY.replace('["train"]', cap)
    return f'{text}[[datasets.heart.rules]]\naction = "{action}"\n{rule}\n'


@pytest.mark.parametrize(
    ("cap", "rule", "silent", "instead"),
    [
        (
            '["train", "synthesize"]',
            'models = ["logistic"]',
            "synthesize",
            'write kinds = ["train"]',
        ),
        ('["train", "count"]', 'models = ["logistic"]', "count", 'write kinds = ["train"]'),
        (
            '["train", "validate", "mock"]',
            'models = ["logistic"]',
            "mock",
            'write kinds = ["train", "validate"]',
        ),
        (
            '["train", "synthesize", "count"]',
            'modes = ["local"]',
            "train, count",
            'write kinds = ["synthesize"]',
        ),
        (
            '["train", "synthesize"]',
            'generators = ["mst"]',
            "train",
            'write kinds = ["synthesize"]',
        ),
        ('["train", "count"]', "max_queries = 3", "train", 'write kinds = ["count"]'),
        ('["synthesize"]', 'models = ["logistic"]', "synthesize", "leave it out"),
    ],
)
@pytest.mark.parametrize("action", ["allow", "ask"])
def test_a_rule_about_one_kind_that_would_let_others_through_is_refused(
    cap: str, rule: str, silent: str, instead: str, action: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(with_rule(cap, rule, action=action))
    key = rule.split(maxsplit=1)[0]
    assert f"/etc/sordino/policy.toml:15: datasets.heart.rules[0].{key}: says" in str(caught.value)
    assert f"says nothing to jobs of kind {silent}, which" in str(caught.value)
    assert instead in str(caught.value)
    # A denial that is too wide harms nobody; a denial with a limit is an error of its own.
    if key not in LIMITS:
        read(with_rule(cap, rule, action="deny"))


@pytest.mark.parametrize(
    ("cap", "rule"),
    [
        ('["train", "synthesize"]', 'kinds = ["train"]\nmodels = ["logistic"]'),
        ('["train", "validate"]', 'models = ["logistic"]'),
        ('["synthesize"]', 'generators = ["mixture"]'),
    ],
)
def test_a_rule_that_lets_no_other_kinds_through_is_as_it_was(cap: str, rule: str) -> None:
    assert not remarks(read(with_rule(cap, rule)).file)


def test_a_term_that_says_nothing_to_a_kind_that_its_rule_names_is_remarked() -> None:
    rule = 'kinds = ["train", "synthesize"]\nmodels = ["logistic"]'
    (remark,) = remarks(read(with_rule('["train", "synthesize", "count"]', rule)).file)
    assert "says nothing to jobs of kind synthesize, which this rule names too" in str(remark)
