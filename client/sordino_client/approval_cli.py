"""`sordino approval`: for the people at a site whom its policy asks, on its host."""

import datetime as dt
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_client.cli import DEFAULT_CONFIG, ConfigOption, OutputOption
from sordino_protocols.errors import IntegrityError, PeerError
from sordino_protocols.terminal import Output, confirm, note, show, show_object

if TYPE_CHECKING:
    from sordino_protocols.approval import ApprovalDecision, ApprovalSubject

approval_app = typer.Typer(no_args_is_help=True, help="Say yes or no to jobs that wait for it.")

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run, as `list` names it.")]
KeyOption = Annotated[Path, typer.Option("--key", help="Your private key, such as alice.key.")]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Your name; else the key file's, without .key.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Kept in the site's audit log.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again.")]

_COLUMNS = ("run_id", "state", "job", "dataset", "submitter", "said_yes", "expires_at")


@approval_app.command("list")
def list_approvals(
    everything: Annotated[bool, typer.Option("--all", help="Also what is over.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the runs that wait for people, oldest first."""
    from sordino_client.admin_client import AdminClient
    from sordino_client.config import load_config

    with AdminClient(load_config(config).admin_socket) as client:
        found = client.listed(everything=everything)
    if output.is_json:
        show(found, output=output)
        return
    lines = [{**each, "said_yes": _said(each)} for each in found]
    show([{key: line[key] for key in _COLUMNS} for line in lines], output=output)
    if not found:
        note("nothing waits for anybody")


@approval_app.command("show")
def show_approval(
    run_id: RunArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one run: what it does, who signed it, what leaves the site, what it costs."""
    from sordino_client.admin_client import AdminClient
    from sordino_client.approval_text import approval_text
    from sordino_client.config import load_config

    with AdminClient(load_config(config).admin_socket) as client:
        shown = client.shown(run_id)
    if output.is_json:
        show_object(shown, output=output)
    else:
        sys.stdout.write(approval_text(shown))


@approval_app.command("approve")
def approve(
    run_id: RunArgument,
    *,
    key: KeyOption,
    name: NameOption = None,
    reason: ReasonOption = "",
    yes: YesOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Say yes to a run, with your key. It counts for this run of this job under this policy."""
    _decide(config, run_id, "approve", key=key, name=name or key.stem, reason=reason, yes=yes)


@approval_app.command("reject")
def reject(
    run_id: RunArgument,
    *,
    key: KeyOption,
    name: NameOption = None,
    reason: ReasonOption = "",
    yes: YesOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Say no to a run, with your key. A no is final, whoever else says yes."""
    _decide(config, run_id, "reject", key=key, name=name or key.stem, reason=reason, yes=yes)


def _decide(
    config: Path,
    run_id: str,
    decision: "ApprovalDecision",
    *,
    key: Path,
    name: str,
    reason: str,
    yes: bool,
) -> None:
    from sordino_client.admin_client import AdminClient
    from sordino_client.approval_text import approval_text
    from sordino_client.config import load_config
    from sordino_protocols.approval import sign_approval
    from sordino_protocols.signing import load_signer

    signer, site = load_signer(key, name), load_config(config)
    with AdminClient(site.admin_socket) as client:
        shown = client.shown(run_id)
        subject = _subject(site.site.name, run_id, shown)
        if not yes:
            sys.stderr.write(approval_text(shown))
            confirm(f"{decision} {run_id} as {name}?", yes=False)
        # The time is that of the signature, not of the looking.
        approval = sign_approval(subject, decision, signer, at=dt.datetime.now(dt.UTC))
        reply = client.decide(approval, reason=reason)
    more = f"; {reply.missing} more must say yes" if reply.state == "waiting" else ""
    note(f"{run_id}: {reply.state}{more}")


def _subject(site: str, run_id: str, shown: dict[str, object]) -> "ApprovalSubject":
    """What is signed: about the job whose bytes were shown, not whatever a digest stands for."""
    from sordino_protocols.approval import ApprovalSubject

    body, digest, policy = shown.get("body"), shown.get("job_digest"), shown.get("policy_sha256")
    if not isinstance(body, str) or not isinstance(policy, str):
        raise PeerError("the vault showed no job")
    if hashlib.sha256(body.encode()).hexdigest() != digest:
        raise IntegrityError("the vault shows a job that has another digest; sign nothing")
    return ApprovalSubject(site, run_id, str(digest), policy)


def _said(line: dict[str, object]) -> str:
    by = line.get("approved_by")
    return f"{len(by) if isinstance(by, list) else 0} of {line.get('needed')}"
