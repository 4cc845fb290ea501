"""A policy in a table: who may do what; and what in it does not fit the site that it is for."""

from collections.abc import Iterator
from pathlib import Path

from sordino_client.config import SiteConfig
from sordino_client.data.declaration import read_dataset
from sordino_client.policy import Policy
from sordino_client.policy_file import DatasetPolicy, RuleSection
from sordino_client.policy_problems import Problem, remarks, spell_terms
from sordino_protocols.files import read_text
from sordino_protocols.toml_positions import Place, line_numbers, line_of

_JOB_KEYS: dict[str, Place] = {
    "kinds": ("job", "kind"),
    "models": ("model", "kind"),
    "modes": ("synthesis", "mode"),
    "generators": ("synthesis", "generator", "kind"),
    "units": ("privacy", "unit"),
    "columns": ("job", "columns"),
    "max_epsilon": ("privacy", "epsilon"),
    "max_delta": ("privacy", "delta"),
    "max_rounds": ("training", "rounds"),
    "max_steps": ("training", "rounds"),
    "min_expected_batch": ("training", "sampling_rate"),
    "min_clipping_norm": ("training", "clipping_norm"),
    "max_clipping_norm": ("training", "clipping_norm"),
    "max_lanes": ("audit", "lanes"),
    "max_queries": ("counting", "queries"),
}


def summary(policy: Policy) -> list[dict[str, object]]:
    """One row a way to decide, in the order in which they are tried."""
    rows = []
    for name, section in policy.file.datasets.items():
        place = ("datasets", name)
        rows.append(_row(name, policy, place, "within caps" if section.rules else "allow", section))
        for index, rule in enumerate(section.rules):
            rows.append(_row(name, policy, (*place, "rules", index), _action(rule), rule))
        rows.append(
            {"data_set": name, "action": "deny", "who": "everybody", "what": "else", "rule": ""}
        )
    return rows


def site_remarks(policy: Policy, config: SiteConfig) -> tuple[str, ...]:
    """What a policy says of data sets, lineages and people that the site does not have."""
    site, found = config.site, _of_file(policy)
    declared = [read_dataset(path).public for path in sorted(site.datasets.glob("*.toml"))]
    lineages = {each.dataset.name: each.lineage for each in declared}
    people = _names(site.submitters)
    for name, section in policy.file.datasets.items():
        if name not in lineages:
            found.append(f"{policy.where('datasets', name)}: the site has no such data set")
        elif policy.budget(lineages[name]) is None:
            text = f"no [budgets.{lineages[name]}], so every job is denied"
            found.append(f"{policy.where('datasets', name)}: {text}")
        found.extend(
            f"{policy.where('datasets', name, 'submitters')}: no key of {person!r}"
            for person in section.submitters
            if person not in people
        )
        found.extend(_of_approvers(policy, name, section, _names(config.approvers)))
    found.extend(
        f"{policy.where('budgets', lineage)}: no data set has this lineage"
        for lineage in policy.file.budgets
        if lineage not in lineages.values()
    )
    return tuple(found)


def _names(directory: Path) -> frozenset[str]:
    """Whose public keys a directory has."""
    return frozenset(path.stem for path in directory.glob("*.pub"))


def _of_approvers(
    policy: Policy, name: str, section: DatasetPolicy, known: frozenset[str]
) -> Iterator[str]:
    for index, rule in enumerate(section.rules):
        if rule.action != "ask":
            continue
        place = ("datasets", name, "rules", index)
        for person in rule.approvers:
            if person not in known:
                yield f"{policy.where(*place, 'approvers')}: no key of {person!r}"
        can_approve = known & set(rule.approvers) if rule.approvers else known
        if len(can_approve) < rule.approvals:
            text = (
                f"{rule.approvals} must approve, and the site has {len(can_approve)} of their keys"
            )
            yield f"{policy.where(*place, 'approvals')}: {text}"


def without_site(policy: Policy) -> tuple[str, ...]:
    """What a policy alone shows."""
    missing = [
        f"{policy.where('datasets', name)}: no [budgets.{name}]; right only if the data set"
        " declares another lineage"
        for name in policy.file.datasets
        if policy.budget(name) is None
    ]
    return (*_of_file(policy), *missing)


def job_place(rule: str, job: Path) -> str:
    """The line of the job's file that a rule is about: `job.toml:14 privacy.epsilon`."""
    place = _JOB_KEYS.get(rule.rsplit(".", 1)[-1])
    if place is None:
        return job.name
    line = line_of(line_numbers(read_text(job)), place)
    number = "" if line is None else f":{line}"
    return f"{job.name}{number} {'.'.join(map(str, place))}"


def _of_file(policy: Policy) -> list[str]:
    return [_spell(policy, each) for each in remarks(policy.file)]


def _spell(policy: Policy, problem: Problem) -> str:
    return f"{policy.where(*problem.place)}: {problem.text}"


def _action(rule: RuleSection) -> str:
    if rule.action != "ask":
        return rule.action
    who = ", ".join(rule.approvers) or "any approver"
    return f"ask {rule.approvals} of {who}"


def _row(
    name: str, policy: Policy, place: Place, action: str, terms: DatasetPolicy | RuleSection
) -> dict[str, object]:
    who = "everybody" if terms.submitters is None else ", ".join(terms.submitters) or "nobody"
    what = spell_terms(terms, without=("submitters",))
    rule = policy.where(*place)
    return {"data_set": name, "action": action, "who": who, "what": what, "rule": rule}
