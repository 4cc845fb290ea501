"""What a policy says that cannot be meant: contradictions, which are errors, and remarks.

A rule that can never decide, an interval that holds nothing, more approvals than approvers: each is
read at load as what it is, a mistake, because a policy that does not do what its admin thinks is
worse than none.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sordino_client.policy_file import DatasetPolicy, PolicyFile, RuleSection, Terms, within_hours
from sordino_protocols.files import spell_key
from sordino_protocols.job import JobKind
from sordino_protocols.toml_positions import Place

NAMES = ("submitters", "kinds", "models", "modes", "generators", "units", "days")
LIMITS = (
    "columns",
    "max_epsilon",
    "max_delta",
    "max_rounds",
    "max_steps",
    "min_units",
    "min_expected_batch",
    "min_clipping_norm",
    "max_clipping_norm",
    "max_lanes",
    "max_queries",
)
"""Keys that hold the sooner the less a job asks for."""
TIMES = ("hours", "days", "from", "until")
KEYS = ("submitters", "kinds", "models", "modes", "generators", "units", *LIMITS, *TIMES)
"""Every key of `Terms`, as a person spells it, in the order in which they are checked."""

_ABOUT: Mapping[str, tuple[JobKind, ...]] = MappingProxyType(
    {
        "models": ("train", "validate"),
        "modes": ("synthesize",),
        "generators": ("synthesize",),
        "max_queries": ("count",),
    }
)
"""Keys that say nothing to jobs of other kinds."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that cannot be meant.

    Attributes:
        place: of the key in the file.
        text: what is wrong with it, and what to write instead.
    """

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{spell_key(self.place)}: {self.text}"


def term(terms: Terms, key: str) -> object:
    """The value of a key as a person spells it; None where it is left out."""
    return getattr(terms, "from_" if key == "from" else key)


def spell_terms(terms: Terms, *, without: tuple[str, ...] = ()) -> str:
    """The terms that are set, on one line."""
    spelled = [
        f"{key}: {spell_value(term(terms, key))}"
        for key in KEYS
        if key not in without and term(terms, key) is not None
    ]
    return "; ".join(spelled) or "everything"


def spell_value(value: object) -> str:
    """A value as people read it; None is nothing."""
    match value:
        case None:
            return ""
        case tuple():
            return ", ".join(map(str, value)) or "none"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def contradictions(file: PolicyFile) -> tuple[Problem, ...]:
    """Everything in a policy that can never hold, in the order of the file."""
    return tuple(
        problem
        for name, section in file.datasets.items()
        for problem in _of_dataset(("datasets", name), section, file)
    )


def remarks(file: PolicyFile) -> tuple[Problem, ...]:
    """What may be meant, and often is not: terms of rules that are looser than a cap, and so on."""
    return tuple(
        problem
        for name, section in file.datasets.items()
        for problem in _remarks(("datasets", name), section)
    )


def implies(narrow: Terms, wide: Terms, key: str) -> bool:
    """Whether whatever holds a term of `narrow` holds that of `wide`, for one key."""
    inner, outer = term(narrow, key), term(wide, key)
    if outer is None:
        return True
    match inner, outer:
        case tuple(), tuple():
            return set(inner) <= set(outer)
        case ((int() | float()), (int() | float())):
            return inner >= outer if key.startswith("min_") else inner <= outer
        case dt.date(), dt.date():
            return inner >= outer if key == "from" else inner <= outer
        case str(), str():
            return _minutes(inner) <= _minutes(outer)
        case _:
            return False


def _minutes(hours: str) -> frozenset[int]:
    """The minutes of the day that are within "HH:MM-HH:MM"."""
    return frozenset(minute for minute in range(24 * 60) if within_hours(hours, minute))


def _of_dataset(place: Place, section: DatasetPolicy, file: PolicyFile) -> Iterator[Problem]:
    yield from _of_terms(place, section, file)
    for index, rule in enumerate(section.rules):
        here = (*place, "rules", index)
        yield from _of_terms(here, rule, file)
        yield from _of_rule(here, rule)
        yield from _of_kinds(here, rule, section)
        yield from _of_cap(here, rule, section)
        for earlier, other in enumerate(section.rules[:index]):
            # What comes to a rule is within the caps already.
            if all(implies(rule, other, key) or implies(section, other, key) for key in KEYS):
                yield Problem(here, f"never decides: rules[{earlier}] matches all that it matches")
                break


def _of_terms(place: Place, terms: Terms, file: PolicyFile) -> Iterator[Problem]:
    if file.time_zone is None:
        for key in TIMES:
            if term(terms, key) is not None:
                zone = 'time_zone = "Europe/Zurich"'
                yield Problem((*place, key), f"needs a time zone at the top of the file: {zone}")
    low, high = terms.min_clipping_norm, terms.max_clipping_norm
    if low is not None and high is not None and low > high:
        text = f"above max_clipping_norm = {high:g}, so nothing is allowed"
        yield Problem((*place, "min_clipping_norm"), text)
    if terms.from_ is not None and terms.until is not None and terms.from_ > terms.until:
        yield Problem((*place, "from"), f"after until = {terms.until}, so no day is left")
    for key in NAMES:
        names = term(terms, key)
        if isinstance(names, tuple) and len(set(names)) < len(names):
            yield Problem((*place, key), "must not repeat a name")


def _of_rule(place: Place, rule: RuleSection) -> Iterator[Problem]:
    for key in (*NAMES, "columns"):
        if term(rule, key) == ():
            yield Problem((*place, key), "names nothing, so the rule never decides")
    if rule.action == "deny":
        for key in LIMITS:
            if term(rule, key) is not None:
                yield Problem(
                    (*place, key),
                    "would deny jobs that ask for less, and not those that ask for more;"
                    " allow or ask with a limit instead: what no rule matches is denied",
                )
    yield from _of_asking(place, rule)


def _of_kinds(place: Place, rule: RuleSection, section: DatasetPolicy) -> Iterator[Problem]:
    """A term about some kinds of jobs in a rule that lets others through unsaid."""
    if rule.action == "deny" or rule.kinds is not None:
        return
    for key, others in _silent_to(rule, section.kinds):
        meant = [kind for kind in section.kinds if kind in _ABOUT[key]]
        names = ", ".join(f'"{kind}"' for kind in meant)
        instead = f"write kinds = [{names}]" if meant else "leave it out"
        text = (
            f"says nothing to jobs of kind {spell_value(others)}, which this rule would let through"
            f" unexamined; {instead}, or name every kind that the rule is for"
        )
        yield Problem((*place, key), text)


def _silent_to(
    rule: RuleSection, kinds: tuple[JobKind, ...]
) -> Iterator[tuple[str, tuple[JobKind, ...]]]:
    """The terms of a rule that are about some kinds of jobs, each with those it is not about."""
    for key, about in _ABOUT.items():
        others = tuple(kind for kind in kinds if kind not in about)
        if term(rule, key) is not None and others:
            yield key, others


def _of_asking(place: Place, rule: RuleSection) -> Iterator[Problem]:
    if rule.action != "ask":
        for key in ("approvals", "approvers", "expires_after_hours"):
            if key in rule.model_fields_set:
                yield Problem((*place, key), 'goes with action = "ask"')
    if len(set(rule.approvers)) < len(rule.approvers):
        yield Problem((*place, "approvers"), "must not repeat a name: one person is one approval")
    elif rule.approvers and rule.approvals > len(rule.approvers):
        text = f"more than the {len(rule.approvers)} approvers, so nobody could ever approve"
        yield Problem((*place, "approvals"), text)


def _of_cap(place: Place, rule: RuleSection, section: DatasetPolicy) -> Iterator[Problem]:
    """Terms of a rule that no job within the caps meets."""
    for key in NAMES:
        names, cap = term(rule, key), term(section, key)
        match names, cap:
            case (_, *_), (_, *_) if not set(names) & set(cap):
                yield Problem((*place, key), "names none that the data set's cap allows")
            case _:
                pass
    low, high = rule.min_clipping_norm, section.max_clipping_norm
    if low is not None and low > high:
        text = f"above the data set's max_clipping_norm = {high:g}, so the rule never decides"
        yield Problem((*place, "min_clipping_norm"), text)
    high_term, low_cap = rule.max_clipping_norm, section.min_clipping_norm
    if high_term is not None and low_cap is not None and high_term < low_cap:
        text = f"below the data set's min_clipping_norm = {low_cap:g}, so the rule never decides"
        yield Problem((*place, "max_clipping_norm"), text)


def _remarks(place: Place, section: DatasetPolicy) -> Iterator[Problem]:
    for index, rule in enumerate(section.rules):
        here = (*place, "rules", index)
        for key in KEYS:
            cap = term(section, key)
            if cap is None or term(rule, key) is None or implies(rule, section, key):
                continue
            if key not in TIMES and rule.action != "deny":
                yield Problem((*here, key), f"looser than the data set's {key}: the cap decides")
        yield from _greedy(here, rule, section.rules[index + 1 :])
        yield from _silent(here, rule)
    for key in ("submitters", "kinds", "models", "modes", "generators", "units"):
        if term(section, key) == ():
            yield Problem((*place, key), "names nothing, so every job is denied")


def _greedy(place: Place, rule: RuleSection, later: tuple[RuleSection, ...]) -> Iterator[Problem]:
    """A limit on asking takes the small jobs and leaves the large ones to a later allow."""
    limits = [key for key in LIMITS if term(rule, key) is not None]
    if rule.action == "ask" and limits and any(each.action == "allow" for each in later):
        text = "asks about jobs within the limit, while a later rule allows jobs beyond it"
        yield Problem((*place, limits[0]), text)


def _silent(place: Place, rule: RuleSection) -> Iterator[Problem]:
    """A term about some kinds of jobs in a rule that names others as well."""
    if rule.action == "deny" or rule.kinds is None:
        return
    for key, others in _silent_to(rule, rule.kinds):
        text = f"says nothing to jobs of kind {spell_value(others)}, which this rule names too"
        yield Problem((*place, key), text)
