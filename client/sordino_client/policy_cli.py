"""`sordino policy`, and `sordino site audit-log`: what a site allows, why, and who decided what."""

import datetime as dt
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.errors import ExitCode, InputError, NotFoundError
from sordino_protocols.standard_paths import default_config
from sordino_protocols.terminal import Output, note, show, show_object

if TYPE_CHECKING:
    from sordino_client.nearest_job import Asked, NearestJob
    from sordino_client.policy import Decision, Policy
    from sordino_client.policy_differences import Difference
    from sordino_protocols.schema import Schema

DEFAULT_CONFIG = default_config("site")
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, json or jsonl.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The site's configuration.", envvar="SORDINO_SITE"),
]

policy_app = typer.Typer(no_args_is_help=True, help="Check, explain and compare a site's policy.")


@policy_app.command("check")
def check(
    file: Annotated[
        Path | None, typer.Argument(help="A policy; without it, the one that the site uses.")
    ] = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Read a policy strictly, and show who may do what; exit code 2 if it is wrong."""
    from sordino_client.config import load_config
    from sordino_client.policy_summary import site_remarks, summary, without_site

    if file is None or config is not None:
        site = load_config(config or DEFAULT_CONFIG)
        policy = _policy(file or site.site.policy)
        remarks = site_remarks(policy, site)
    else:
        policy = _policy(file)
        remarks = without_site(policy)
    rows = summary(policy)
    budgets = [
        {
            "lineage": name,
            "epsilon": rule.epsilon,
            "delta": rule.delta,
            "rule": policy.where("budgets", name),
        }
        for name, rule in policy.file.budgets.items()
    ]
    if output.is_json:
        facts = {
            "source": policy.source,
            "sha256": policy.sha256,
            "time_zone": policy.file.time_zone,
        }
        show_object(
            {**facts, "budgets": budgets, "rules": rows, "remarks": list(remarks)}, output=output
        )
        return
    show(budgets, output=output, title="Budgets, for ever")
    show(rows, output=output, title="Who may do what; the first line that fits decides")
    for remark in remarks:
        note(f"warning: {remark}")
    note(f"{policy.source}: sound, sha256 {policy.sha256}")


@policy_app.command("explain")
def explain(
    job: Annotated[Path, typer.Argument(help="The job's TOML file.")],
    *,
    config: ConfigOption = None,
    policy_file: Annotated[
        Path | None, typer.Option("--policy", help="A policy, instead of the site's.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option("--dataset", help="A data set's file, with --policy.")
    ] = None,
    submitter: Annotated[
        str | None, typer.Option(help="Who signs; without it, the first whom the policy names.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="When, such as 2026-11-25T22:00; by the site's clock.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show every cap and rule with its result, the decision, and the nearest job that would pass.

    Exit code 0 if the job is allowed or asked about, 3 if it is denied.
    """
    from sordino_client.nearest_job import nearest_job
    from sordino_client.policy_explanation import steps

    policy, schemas, site = _place(config, policy_file, dataset)
    asked = _asked(job, policy, schemas, site=site, submitter=submitter, at=at)
    decision = asked.decision(policy)
    nearest = None if decision.is_allowed else nearest_job(policy, asked)
    rows = [asdict(step) for step in steps(policy, asked)]
    if output.is_json:
        show_object(
            {
                "submitter": asked.submitter,
                "at": asked.now.isoformat(),
                "decision": asdict(decision),
                "steps": rows,
                "nearest_job": None if nearest is None else _nearest_facts(nearest),
            },
            output=output,
        )
    else:
        when = asked.now.strftime("%A %Y-%m-%d %H:%M %Z")
        show(rows, output=output, title=f"{job.name}, signed by {asked.submitter}, at {when}")
        _say(decision, nearest, job)
    if not decision.is_allowed:
        raise typer.Exit(ExitCode.REFUSED)


@policy_app.command("diff")
def diff(
    old: Annotated[Path, typer.Argument(help="The policy before.")],
    new: Annotated[Path, typer.Argument(help="The policy after.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what becomes stricter and what looser, with the lines."""
    from sordino_client.policy_differences import differences

    before, after = _policy(old), _policy(new)
    found = differences(before, after)
    if output.is_json:
        show([asdict(each) for each in found], output=output)
    elif found:
        show([_difference_row(each, before, after) for each in found], output=output)
    else:
        note("no difference in what is allowed")


def audit_log(
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check only, and show length and head.")
    ] = False,
) -> None:
    """List who decided what at this site; exit code 8 if an entry was changed."""
    from sordino_client.config import load_config
    from sordino_protocols.audit_log import read_audit_log
    from sordino_protocols.heads import GENESIS

    path = load_config(config or DEFAULT_CONFIG).audit_log_path
    entries = read_audit_log(path)
    if verify:
        head = entries[-1].hash if entries else GENESIS
        show_object({"audit_log": str(path), "entries": len(entries), "head": head}, output=output)
        return
    rows = [entry.model_dump() for entry in entries]
    shown = ("seq", "ts", "actor", "action", "object", "decision", "reason")
    is_json = output.is_json
    show(rows if is_json else [{key: row[key] for key in shown} for row in rows], output=output)


def _policy(path: Path) -> "Policy":
    from sordino_client.policy import load_policy

    policy = load_policy(path)
    if policy is None:
        raise NotFoundError(f"{path}: no such file, so everything is refused")
    return policy


def _place(
    config: Path | None, policy_file: Path | None, dataset: Path | None
) -> "tuple[Policy, Mapping[str, Schema], str | None]":
    """The policy, the data sets by name, and the site's name if it is known."""
    from sordino_client.config import load_config
    from sordino_client.data.declaration import read_dataset

    if (policy_file is None) != (dataset is None):
        raise InputError("--policy and --dataset go together; or --config names both")
    if policy_file is not None and dataset is not None:
        schema = read_dataset(dataset).public
        return _policy(policy_file), {schema.dataset.name: schema}, None
    site = load_config(config or DEFAULT_CONFIG).site
    declared = [read_dataset(path).public for path in sorted(site.datasets.glob("*.toml"))]
    return _policy(site.policy), {each.dataset.name: each for each in declared}, site.name


def _asked(
    job_path: Path,
    policy: "Policy",
    schemas: "Mapping[str, Schema]",
    *,
    site: str | None,
    submitter: str | None,
    at: str | None,
) -> "Asked":
    from sordino_client.nearest_job import Asked
    from sordino_protocols.files import read_toml
    from sordino_protocols.job import JobFile
    from sordino_protocols.pricing import price, resolve

    file = read_toml(job_path, JobFile)
    job = resolve(file)
    section = policy.file.datasets.get(file.job.dataset)
    named = section.submitters if section is not None else ()
    cohort = file.cohort.sites
    return Asked(
        job,
        price(job),
        submitter or next(iter(named), "nobody"),
        site or next(iter(cohort), "this-site"),
        schema=schemas.get(file.job.dataset),
        now=_moment(at, policy),
    )


def _moment(text: str | None, policy: "Policy") -> dt.datetime:
    clock = policy.file.clock
    if text is None:
        return dt.datetime.now(clock)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--at {text!r}: must be a time such as 2026-11-25T22:00") from None
    return moment.replace(tzinfo=clock) if moment.tzinfo is None else moment.astimezone(clock)


def _say(decision: "Decision", nearest: "NearestJob | None", job: Path) -> None:
    """The decision as a person reads it: what, why, and how to fix it."""
    from sordino_client.policy_summary import job_place

    match decision.action:
        case "allow":
            sys.stdout.write(f"allowed by {decision.rule}\n")
        case "ask":
            who = ", ".join(decision.approvers) or "anybody in the approvers directory"
            sys.stdout.write(
                f"asks by {decision.rule}: {decision.approvals_needed} of {who},"
                f" within {decision.expires_after_hours:g} hours\n"
            )
        case "deny":
            refusal = "" if decision.refusal is None else f"[{decision.refusal.value}]"
            note(f"error{refusal}: {job.name} is denied")
            allowed = f"  {decision.allowed}" if decision.allowed else ""
            note(f"  rule   {decision.rule}{allowed}")
            place = job_place(decision.rule, job)
            if decision.asked:
                note(f"  job    {place}  {decision.asked}")
            if nearest is None:
                note("  help   no change of the job helps: ask the site's admin")
            else:
                note(f"  help   change {job.name} as below; then it is {_outcome(nearest)}")
                sys.stdout.write(nearest.toml())


def _outcome(nearest: "NearestJob") -> str:
    return "allowed" if nearest.decision.action == "allow" else "put to the approvers"


def _nearest_facts(nearest: "NearestJob") -> dict[str, object]:
    return {
        "decision": nearest.decision.action,
        "rule": nearest.decision.rule,
        "changes": [".".join(filter(None, (each.section, each.key))) for each in nearest.changes],
        "toml": nearest.toml(),
    }


def _difference_row(each: "Difference", old: "Policy", new: "Policy") -> dict[str, object]:
    def place(policy: "Policy", line: int | None) -> str:
        return "-" if line is None else f"{policy.source}:{line}"

    return {
        "becomes": each.direction,
        "key": each.key,
        "old": each.old or "-",
        "at": place(old, each.old_line),
        "new": each.new or "-",
        "now_at": place(new, each.new_line),
    }
