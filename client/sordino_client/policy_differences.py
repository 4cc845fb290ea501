"""What a change of a policy means: what becomes stricter, what looser, with the lines.

"stricter" and "looser" are promises: no job is treated better by a stricter change, and none worse
by a looser one (allowed is better than asked about, and that than denied). What is neither, such as
another way of asking, is "changed".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from sordino_client.policy import Policy
from sordino_client.policy_file import DatasetPolicy, RuleSection, Terms
from sordino_client.policy_problems import KEYS, implies, spell_terms, spell_value, term
from sordino_protocols.toml_positions import Place, line_of

Direction = Literal["stricter", "looser", "changed"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One change.

    Attributes:
        direction: what it does to jobs.
        key: what changed.
        old: its value, as text; empty where there was none.
        new: its value, as text; empty where there is none.
        old_line: in the old file.
        new_line: in the new file.
    """

    direction: Direction
    key: str
    old: str
    new: str
    old_line: int | None
    new_line: int | None


def differences(old: Policy, new: Policy) -> tuple[Difference, ...]:
    """Everything that one policy says and the other does not, in the order of the files."""
    return tuple(_Comparison(old, new).all())


@dataclass(frozen=True, slots=True)
class _Comparison:
    old: Policy
    new: Policy

    def all(self) -> Iterator[Difference]:
        before, after = self.old.file, self.new.file
        if before.time_zone != after.time_zone:
            yield self._difference(
                "changed", ("time_zone",), before.time_zone or "", after.time_zone or ""
            )
        for name in dict.fromkeys([*before.budgets, *after.budgets]):
            yield from self._budget(name)
        for name in dict.fromkeys([*before.datasets, *after.datasets]):
            yield from self._dataset(name)

    def _budget(self, lineage: str) -> Iterator[Difference]:
        place = ("budgets", lineage)
        one, other = self.old.file.budgets.get(lineage), self.new.file.budgets.get(lineage)
        if one is None or other is None:
            direction: Direction = "looser" if one is None else "stricter"
            yield self._difference(
                direction,
                place,
                "" if one is None else f"epsilon = {one.epsilon:g}, delta = {one.delta:g}",
                "" if other is None else f"epsilon = {other.epsilon:g}, delta = {other.delta:g}",
            )
            return
        for key, low, high in (
            ("epsilon", one.epsilon, other.epsilon),
            ("delta", one.delta, other.delta),
        ):
            if low != high:
                direction = "looser" if high > low else "stricter"
                yield self._difference(direction, (*place, key), f"{low:g}", f"{high:g}")

    def _dataset(self, name: str) -> Iterator[Difference]:
        place = ("datasets", name)
        one, other = self.old.file.datasets.get(name), self.new.file.datasets.get(name)
        if one is None or other is None:
            direction: Direction = "looser" if one is None else "stricter"
            yield self._difference(
                direction,
                place,
                "" if one is None else spell_terms(one),
                "" if other is None else spell_terms(other),
            )
            return
        for key in KEYS:
            if term(one, key) != term(other, key):
                yield self._difference(
                    _of_term(one, other, key),
                    (*place, key),
                    spell_value(term(one, key)),
                    spell_value(term(other, key)),
                )
        yield from self._rules(place, one, other)

    def _rules(
        self, place: Place, one: DatasetPolicy, other: DatasetPolicy
    ) -> Iterator[Difference]:
        if bool(one.rules) != bool(other.rules):
            yield self._first_or_last_rules(place, one, other)
            return
        # A rule that moved is one that was removed and one that was added.
        before = [_spell_rule(rule) for rule in one.rules]
        after = [_spell_rule(rule) for rule in other.rules]
        for low, high, new_low, new_high in _changed_places(before, after):
            if 0 < high - low == new_high - new_low:
                pairs = zip(range(low, high), range(new_low, new_high), strict=True)
                for index, new_index in pairs:
                    yield self._rule_pair(
                        place, (index, one.rules[index]), (new_index, other.rules[new_index])
                    )
                continue
            for index in range(low, high):
                yield self._rule_gone(place, index, one.rules[index])
            for index in range(new_low, new_high):
                yield self._rule_added(place, index, other.rules[index])

    def _first_or_last_rules(
        self, place: Place, one: DatasetPolicy, other: DatasetPolicy
    ) -> Difference:
        # Without rules all within the caps is allowed; with rules, at most what they allow.
        return self._difference(
            "stricter" if other.rules else "looser",
            (*place, "rules"),
            "; ".join(map(_spell_rule, one.rules)) or "none: all within the caps is allowed",
            "; ".join(map(_spell_rule, other.rules)) or "none: all within the caps is allowed",
        )

    def _rule_pair(
        self, place: Place, old: tuple[int, RuleSection], new: tuple[int, RuleSection]
    ) -> Difference:
        (old_index, one), (new_index, other) = old, new
        return Difference(
            _of_rules(one, other),
            f"{'.'.join(map(str, place))}.rules[{new_index}]",
            _spell_rule(one),
            _spell_rule(other),
            line_of(self.old.lines, (*place, "rules", old_index)),
            line_of(self.new.lines, (*place, "rules", new_index)),
        )

    def _rule_gone(self, place: Place, index: int, rule: RuleSection) -> Difference:
        directions: dict[str, Direction] = {"allow": "stricter", "deny": "looser"}
        return Difference(
            directions.get(rule.action, "changed"),
            f"{'.'.join(map(str, place))}.rules[{index}]",
            _spell_rule(rule),
            "",
            line_of(self.old.lines, (*place, "rules", index)),
            None,
        )

    def _rule_added(self, place: Place, index: int, rule: RuleSection) -> Difference:
        directions: dict[str, Direction] = {"allow": "looser", "deny": "stricter"}
        return Difference(
            directions.get(rule.action, "changed"),
            f"{'.'.join(map(str, place))}.rules[{index}]",
            "",
            _spell_rule(rule),
            None,
            line_of(self.new.lines, (*place, "rules", index)),
        )

    def _difference(self, direction: Direction, place: Place, old: str, new: str) -> Difference:
        return Difference(
            direction,
            ".".join(map(str, place)),
            old,
            new,
            line_of(self.old.lines, place) if old else None,
            line_of(self.new.lines, place) if new else None,
        )


def _of_term(one: Terms, other: Terms, key: str) -> Direction:
    """What a change of one term does to what holds."""
    is_narrower, is_wider = implies(other, one, key), implies(one, other, key)
    if is_narrower == is_wider:
        return "changed"
    return "stricter" if is_narrower else "looser"


def _of_rules(one: RuleSection, other: RuleSection) -> Direction:
    """What putting one rule in the place of another does."""
    is_narrower = all(implies(other, one, key) for key in KEYS)
    is_wider = all(implies(one, other, key) for key in KEYS)
    match one.action, other.action:
        case "allow", "allow" if is_narrower:
            return "stricter"
        case "allow", "allow" if is_wider:
            return "looser"
        case "ask", "ask" if is_narrower and is_wider:
            return _of_asking(one, other)
        case "deny", "deny" if is_narrower:
            return "looser"
        case "deny", "deny" if is_wider:
            return "stricter"
        case ("allow", "ask" | "deny") if is_narrower and is_wider:
            return "stricter"
        case ("ask" | "deny", "allow") if is_narrower and is_wider:
            return "looser"
        case "ask", "deny" if is_narrower and is_wider:
            return "stricter"
        case "deny", "ask" if is_narrower and is_wider:
            return "looser"
        case _:
            return "changed"


def _of_asking(one: RuleSection, other: RuleSection) -> Direction:
    """What another way of asking about the same jobs does."""
    before, after = set(one.approvers), set(other.approvers)
    # No name means everybody.
    names_more = bool(before) and (not after or before < after)
    names_fewer = bool(after) and (not before or after < before)
    names_others = before != after and not names_more and not names_fewer
    looser = (
        names_more
        or other.approvals < one.approvals
        or other.expires_after_hours > one.expires_after_hours
    )
    stricter = (
        names_fewer
        or other.approvals > one.approvals
        or other.expires_after_hours < one.expires_after_hours
    )
    if names_others or looser == stricter:
        return "changed"
    return "looser" if looser else "stricter"


def _changed_places(before: list[str], after: list[str]) -> Iterator[tuple[int, int, int, int]]:
    """Where two lists differ: from and to in the first, from and to in the second.

    Backwards it is the same list of changes: which of two rules has moved, where they changed
    places, must not depend on which list is the old one.
    """
    first, second = sorted((before, after))
    matcher = SequenceMatcher(a=first, b=second, autojunk=False)
    for tag, low, high, other_low, other_high in matcher.get_opcodes():
        if tag == "equal":
            continue
        if first == before:
            yield low, high, other_low, other_high
        else:
            yield other_low, other_high, low, high


def _spell_rule(rule: RuleSection) -> str:
    if rule.action != "ask":
        return f"{rule.action} {spell_terms(rule)}"
    who = ", ".join(rule.approvers) or "all approvers"
    hours = f"{rule.expires_after_hours:g} h"
    return f"ask {rule.approvals} of {who} for {hours}: {spell_terms(rule)}"
