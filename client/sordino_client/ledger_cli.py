"""`sordino ledger` and `sordino budget`: for the admin of a site, on its host.

They read what lies on disk, so all but `recover` work whether the vault runs or not.

Exit codes: 0 where the ledger holds together, 8 where it does not or is halted.
"""

import datetime as dt
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_client.cli import DEFAULT_CONFIG, ConfigOption, OutputOption
from sordino_protocols.errors import InputError, IntegrityError, NotFoundError
from sordino_protocols.terminal import Output, confirm, note, show, show_json, show_object

if TYPE_CHECKING:
    from sordino_client.books import Books
    from sordino_client.config import SiteConfig
    from sordino_client.recovery import Plan, SiteMemory
    from sordino_protocols.heads import SignedHead
    from sordino_protocols.privacy import Guarantee

budget_app = typer.Typer(no_args_is_help=True, help="What a site's data sets may still release.")
ledger_app = typer.Typer(no_args_is_help=True, help="What a site has released, and its proof.")

_NOT_SOUND = (
    "composed: what was spent, by full PLD composition. Not sound when jobs are chosen\n"
    "adaptively, after seeing earlier results; the filter is, and filter_costs is its price."
)


@budget_app.command("show")
def budget_show(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Show limit, spent, held and left of every budget, in epsilon by the Rényi filter.

    Beside it, what the filter costs: the same by full PLD composition, which is not sound when jobs
    are chosen adaptively.
    """
    from sordino_client.config import load_config
    from sordino_client.policy import load_policy

    site = load_config(config)
    policy = load_policy(site.site.policy)
    budgets = {} if policy is None else policy.file.budgets
    books = _books(site)
    rows = [
        {"lineage": lineage, **_spending(books, lineage, rule.guarantee)}
        for lineage, rule in budgets.items()
    ]
    show(rows, output=output)
    if not output.is_json:
        note(_NOT_SOUND)
        if books.halted is not None:
            note(f"the ledger is halted: {books.halted}")


@ledger_app.command("verify")
def ledger_verify(
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
    against: Annotated[
        Path | None,
        typer.Option(
            help="An export, or a run's statement.json or certificate.json: are the heads in it,"
            " which this site signed, still in the ledger?"
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Check this export instead, offline; needs --site-key.")
    ] = None,
    site_key: Annotated[
        Path | None, typer.Option(help="The site's public key, NAME.pub, for --export.")
    ] = None,
) -> None:
    """Check every entry of the ledger against its chain; exit code 8 if one does not hold."""
    if (export is None) != (site_key is None):
        raise InputError("--export and --site-key go together: the export, and whose it is")
    if export is not None and site_key is not None:
        show_object(_verify_export(export, site_key), output=output)
        return
    show_object(_verify(config, against), output=output)


@ledger_app.command("export")
def ledger_export(
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[Path | None, typer.Option(help="A new file; absent: stdout.")] = None,
) -> None:
    """Write the whole ledger as canonical JSON lines, with its head signed by the site."""
    from sordino_client.chain_store import read_rows
    from sordino_client.config import load_config
    from sordino_client.ledger_export import export_lines
    from sordino_client.ledger_location import ledger_location
    from sordino_protocols.files import write_public
    from sordino_protocols.signing import load_signer

    site = load_config(config)
    signer = load_signer(site.site.signing_key, site.site.name)
    lines = export_lines(read_rows(ledger_location(site)), signer)
    if out is None:
        sys.stdout.writelines(lines)
    else:
        write_public(out, "".join(lines).encode("ascii"))


@ledger_app.command("show")
def ledger_show(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """List the ledger's entries, oldest first, with what each run has spent so far."""
    from sordino_client.config import load_config

    rows = list(_history(load_config(config)))
    if output.is_json:
        show_json([{**facts, **row} for facts, row in rows], output=output)
        return
    show([row for _, row in rows], output=output)


@ledger_app.command("recover")
def ledger_recover(
    reason: Annotated[str, typer.Option(help="What happened; goes into the ledger.")],
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
    uncharged: Annotated[
        list[str] | None,
        typer.Option(help="A run whose file is lost too and that is not charged; may be repeated."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Charge what a halted or broken ledger may have lost, record why, and lift the halt.

    For a person, with the vault stopped. Every run whose entries may be missing is charged its
    whole plan. Nothing is removed, and nothing is given back.
    """
    from sordino_client.config import load_config
    from sordino_client.ledger_location import ledger_location
    from sordino_client.recovery import Recoverer

    site = load_config(config)
    recoverer = Recoverer(ledger_location(site), _memory(site), now=_now)
    try:
        _explain(recoverer.plan)
        if recoverer.plan.problems:
            confirm("Charge this, and go on?", yes=yes)
        entry = recoverer.recover(reason, uncharged=tuple(uncharged or ()))
        charged = [charge.run_id for charge in recoverer.plan.charges]
    finally:
        recoverer.close()
    _record(site, reason, entry)
    show_object({"recovered": True, "entry": entry, "charged": charged}, output=output)


def _verify(config: Path, against: Path | None) -> dict[str, object]:
    from sordino_client.chain import Walk
    from sordino_client.chain_store import describe, read_rows
    from sordino_client.config import load_config
    from sordino_client.continuity import missing_entries
    from sordino_client.ledger_location import ledger_location

    site = load_config(config)
    walk, books = Walk(), _empty_books()
    for entry in walk.verified(read_rows(ledger_location(site))):
        books.apply(entry)
    if books.halted is not None:
        raise IntegrityError(f"the ledger is halted: {books.halted}; see: sordino ledger recover")
    has_answers = (site.site.state / "outbox").is_dir()
    if has_answers and (missing := missing_entries(books, _memory(site).outbox)):
        raise IntegrityError(f"entries are missing: the outbox has {', '.join(missing[:5])}")
    facts: dict[str, object] = {
        "ledger": describe(ledger_location(site)),
        "entries": walk.length,
        "head": walk.head,
    }
    if against is not None:
        heads = _own_heads(site, against)
        for head in heads:
            if not walk.contains(length=head.length, head=head.hash):
                raise IntegrityError(
                    f"{against}: the site signed that entry {head.length - 1} of its ledger has the"
                    f" hash {head.hash}, and it is not there; see: sordino ledger recover"
                )
        facts["heads_found_again"] = len(heads)
    return facts


def _own_heads(site: "SiteConfig", path: Path) -> tuple["SignedHead", ...]:
    """The heads in a document that this site signed."""
    from sordino_client.ledger_export import heads_in
    from sordino_protocols.errors import AuthenticationError
    from sordino_protocols.files import read_text
    from sordino_protocols.heads import verify_head
    from sordino_protocols.signing import TrustStore, load_signer

    name = site.site.name
    trust = TrustStore({name: load_signer(site.site.signing_key, name).key.public_key()})
    try:
        # Of an export, the first line; anything else is one document.
        document, _ = json.JSONDecoder().raw_decode(read_text(path).lstrip())
    except ValueError:
        raise InputError(f"{path}: expected JSON") from None
    own = []
    for head in heads_in(document):
        try:
            verify_head(head, site=name, trust=trust)
        except AuthenticationError:
            continue
        own.append(head)
    if not own:
        raise InputError(f"{path}: no ledger head in it was signed by {name}")
    return tuple(own)


def _verify_export(path: Path, site_key: Path) -> dict[str, object]:
    from sordino_client.ledger_export import read_export
    from sordino_protocols.signing import TrustStore, load_public_key

    export = read_export(path)
    entries = export.verified(TrustStore({site_key.stem: load_public_key(site_key)}))
    books = _empty_books()
    for entry in entries:
        books.apply(entry)
    return {
        "export": str(path),
        "site": export.site,
        "entries": export.head.length,
        "head": export.head.hash,
        "runs": len(books.runs),
    }


def _history(site: "SiteConfig") -> Iterator[tuple[dict[str, object], dict[str, object]]]:
    """Every entry as it is, and as a row of the table."""
    from sordino_client.chain import Walk
    from sordino_client.chain_store import read_rows
    from sordino_client.ledger_location import ledger_location
    from sordino_protocols.privacy import mechanism

    books, deltas = _empty_books(), dict[object, float]()
    for entry in Walk().verified(read_rows(ledger_location(site))):
        books.apply(entry)
        facts = dict(entry.facts)
        match facts:
            case {"kind": "hold", "budget": {"delta": float(delta)}}:
                deltas[facts["run_id"]] = delta
        run_id = facts.get("run_id")
        run, at = books.runs.get(str(run_id)), deltas.get(run_id)
        row = {
            "seq": entry.seq,
            "time": facts.get("at"),
            "kind": facts.get("kind"),
            "run": run_id,
            "step": facts.get("step", facts.get("reason")),
            "mechanism": mechanism(entry.event) if "event" in facts else None,
            "epsilon": None if run is None or at is None else run.spent.epsilon(at),
        }
        yield {**facts, "hash": entry.hash}, row


def _spending(books: "Books", lineage: str, budget: "Guarantee") -> dict[str, object]:
    from sordino_protocols.accounting import composed_epsilon

    balance = books.balance(lineage, budget)
    facts: dict[str, object] = {
        name: value for name, value in asdict(balance).items() if name != "delta"
    }
    try:
        composed = composed_epsilon(books.charged(lineage), budget.delta)
    except InputError:
        # Events about records and events about entities have no common guarantee by PLD.
        return {**facts, "composed": None, "filter_costs": None, "delta": budget.delta}
    return {
        **facts,
        "composed": composed,
        "filter_costs": balance.spent - composed,
        "delta": budget.delta,
    }


def _books(site: "SiteConfig") -> "Books":
    from sordino_client.chain import Walk
    from sordino_client.chain_store import read_rows
    from sordino_client.data.declaration import read_dataset
    from sordino_client.ledger_location import ledger_location

    books = _empty_books()
    try:
        for entry in Walk().verified(read_rows(ledger_location(site))):
            books.apply(entry)
    except NotFoundError:
        # The vault has not run yet: nothing is spent.
        return books
    for path in sorted(site.site.datasets.glob("*.toml")):
        facts = read_dataset(path).public
        books.link(dataset=facts.dataset.name, lineage=facts.lineage)
    return books


def _memory(site: "SiteConfig") -> "SiteMemory":
    from sordino_client.data.declaration import read_dataset
    from sordino_client.outbox import Outbox
    from sordino_client.recovery import SiteMemory

    schemas = [read_dataset(path).public for path in sorted(site.site.datasets.glob("*.toml"))]
    return SiteMemory(
        Outbox(site.site.state / "outbox"),
        site.site.state / "runs",
        {schema.dataset.name: schema.lineage for schema in schemas},
    )


def _explain(plan: "Plan") -> None:
    for problem in plan.problems:
        note(f"problem   {problem}")
    for charge in plan.charges:
        note(f"charge    {charge.run_id}: its whole plan, from the budget of {charge.lineage}")
    if plan.missing is not None:
        length, head = plan.missing
        note(f"missing   entries up to {length - 1}; the newest of them had the hash {head}")
        note(
            "          What no file here knows of cannot be charged here: compare with the runs'"
            " statements on the server, and lower the budget by what is missing."
        )
    if plan.sealed_entries:
        note(f"sealed    {plan.sealed_entries} entries that do not hold stay as they are")
    if plan.unreadable is not None:
        note(f"set aside {plan.unreadable}, which is no ledger")


def _record(site: "SiteConfig", reason: str, entry: str) -> None:
    from sordino_protocols.audit_log import AuditLog

    AuditLog(site.audit_log_path, now=_now).record(
        actor="admin",
        action="recovered",
        object="ledger",
        decision="",
        reason=f"{reason} (ledger entry {entry})",
        policy_sha256=None,
    )


def _empty_books() -> "Books":
    from sordino_client.books import Books

    return Books()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
