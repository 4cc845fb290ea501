"""What a person reads before saying yes or no to a run: a page of plain text."""

import json
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict

_KEY_WIDTH = 12


class _Costs(BaseModel):
    model_config = ConfigDict(frozen=True)

    unit: str
    epsilon: float
    epsilon_of_the_budget: float
    delta: float
    lineage: str | None = None
    limit: float = 0.0
    spent: float = 0.0
    held: float = 0.0
    left: float = 0.0
    left_afterwards: float = 0.0


class _Decision(BaseModel):
    model_config = ConfigDict(frozen=True)

    approver: str
    decision: str
    at: str
    reason: str
    counts: bool


class _Change(BaseModel):
    model_config = ConfigDict(frozen=True)

    key: str
    before: object
    now: object


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True)

    run_id: str
    state: str
    job: str
    dataset: str
    submitter: str
    approved_by: tuple[str, ...]
    needed: int
    may_approve: tuple[str, ...]
    asked_at: str
    expires_at: str
    rule: str
    job_digest: str
    policy_sha256: str
    work: tuple[str, ...]
    leaves: tuple[str, ...]
    costs: _Costs
    decisions: tuple[_Decision, ...]
    compared_with: str | None
    changes: tuple[_Change, ...]


def approval_text(shown: Mapping[str, object]) -> str:
    """The page about one run.

    Args:
        shown: as `ApprovalDesk.shown` made it.
    """
    facts = _Shown.model_validate(shown)
    return "\n".join(_lines(facts)) + "\n"


def _lines(facts: _Shown) -> Iterator[str]:
    yield f"{facts.run_id}: job {facts.job!r}, signed by {facts.submitter}"
    yield from _pairs(_head(facts))
    yield from _section("What it does", facts.work)
    yield from _section("What leaves the site", facts.leaves)
    yield from _section(f"What it costs one {facts.costs.unit}", _costs(facts.costs))
    if facts.compared_with is None:
        yield from _section("What changed", ("no job of this name was approved here before",))
    else:
        title = f"What changed since {facts.compared_with}, the last one of this name approved here"
        yield from _section(title, _changes(facts))
    yield from _section("What people said", _said(facts))


def _head(facts: _Shown) -> Iterator[tuple[str, str]]:
    yield "state", f"{facts.state}; {len(facts.approved_by)} of {facts.needed} said yes"
    yield "may decide", ", ".join(facts.may_approve) or "nobody: no approver has a key here"
    yield "asked", facts.asked_at
    yield "expires", facts.expires_at
    yield "rule", facts.rule
    yield "job", facts.job_digest
    yield "policy", facts.policy_sha256


def _costs(costs: _Costs) -> Iterator[str]:
    yield f"epsilon {costs.epsilon:.4g} at delta {costs.delta:g}, of this run alone"
    yield f"epsilon {costs.epsilon_of_the_budget:.4g} as the lifetime budget counts"
    if costs.lineage is None:
        yield "the policy has no budget for the data set now"
        return
    yield (
        f"budget of {costs.lineage}: {costs.limit:g} for ever, {costs.spent:.4g} spent,"
        f" {costs.held:.4g} held by other runs"
    )
    yield f"left: {costs.left:.4g} now, {costs.left_afterwards:.4g} afterwards"


def _changes(facts: _Shown) -> Iterator[str]:
    if not facts.changes:
        yield "nothing: the same job again"
    for change in facts.changes:
        yield f"{change.key}: {_value(change.before)} -> {_value(change.now)}"


def _said(facts: _Shown) -> Iterator[str]:
    if not facts.decisions:
        yield "nobody said anything yet"
    for each in facts.decisions:
        reason = f": {each.reason}" if each.reason else ""
        about = "" if each.counts else " (about another policy: does not count)"
        yield f"{each.approver} {each.decision} {each.at}{about}{reason}"


def _section(title: str, lines: "tuple[str, ...] | Iterator[str]") -> Iterator[str]:
    yield ""
    yield title
    for line in lines:
        yield f"  {line}"


def _pairs(pairs: Iterator[tuple[str, str]]) -> Iterator[str]:
    for key, value in pairs:
        yield f"  {key:<{_KEY_WIDTH}}{value}"


def _value(value: object) -> str:
    # JSON, so that nothing in a job can move the cursor of whoever reads this.
    return "-" if value is None else json.dumps(value)
