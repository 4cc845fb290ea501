"""`sordino cert`: read and check certificates, offline; for whoever is shown one."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.errors import InputError, IntegrityError, NotFoundError
from sordino_protocols.terminal import Output, complain, note, show, show_object

if TYPE_CHECKING:
    from sordino_protocols.certificate import Certificate
    from sordino_protocols.certificate_check import TrustedKeys, Verification
    from sordino_protocols.signing import TrustStore

cert_app = typer.Typer(no_args_is_help=True, help="Check what a run promised and what it charged.")

FileArgument = Annotated[Path, typer.Argument(help="The certificate's file.")]
SitesOption = Annotated[
    Path | None, typer.Option("--sites", help="A directory with the sites' .pub files.")
]
ServerOption = Annotated[Path | None, typer.Option("--server", help="The server's .pub file.")]
SubmittersOption = Annotated[
    Path | None, typer.Option("--submitters", help="A directory with the submitters' .pub files.")
]
AuditorsOption = Annotated[
    Path | None, typer.Option("--auditors", help="A directory with the auditors' .pub files.")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, json or jsonl.")]
ToOption = Annotated[Path | None, typer.Option("--out", "-o", help="Where to write it.")]


@cert_app.command("verify")
def verify(
    file: FileArgument,
    *,
    sites: SitesOption = None,
    server: ServerOption = None,
    submitters: SubmittersOption = None,
    auditors: AuditorsOption = None,
    model: Annotated[Path | None, typer.Option(help="The model's file.")] = None,
    job: Annotated[Path | None, typer.Option(help="The job's TOML file.")] = None,
    ledger_export: Annotated[
        list[Path] | None,
        typer.Option(help="A site's `sordino ledger export`; may be given for every site."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check signatures, compute every number again, and compare; asks nobody.

    Exit code 0: it holds; 8: it is not what was signed; 9: a claim does not hold.
    """
    from sordino.ledger_exports import check_export
    from sordino_client.ledger_export import read_export
    from sordino_protocols.certificate_check import (
        Verification,
        check_job_file,
        check_model,
        verify_certificate,
    )
    from sordino_protocols.files import read_toml
    from sordino_protocols.job import JobFile

    certificate = _read(file)
    trusted = _trusted(server, sites, submitters=submitters, auditors=auditors)
    found = verify_certificate(certificate, trusted)
    problems = list(found.problems)
    if model is not None:
        problems += check_model(certificate, _content(model))
    if job is not None:
        problems += check_job_file(certificate, read_toml(job, JobFile))
    for each in ledger_export or ():
        problems += check_export(certificate, read_export(each), trusted.sites)
    _tell(certificate, Verification(tuple(problems), found.notes), output=output)


@cert_app.command("show")
def show_certificate(file: FileArgument, output: OutputOption = Output.TABLE) -> None:
    """Print what a certificate says; whether that holds is `verify`'s to say."""
    certificate = _read(file)
    if output.is_json:
        show_object(certificate.model_dump(mode="json"), output=output)
        return
    show_object(_summary(certificate), output=output)
    show(_site_rows(certificate), output=output, title="\nWhat each site charged")
    rows = [
        {
            "sites": entry.sites,
            "epsilon": entry.epsilon,
            "delta": entry.delta,
            "members recognised, at most": f"{entry.bound.true_positive_rate:.1%}",
            "dearest": list(entry.dearest),
        }
        for entry in certificate.composition.table
    ]
    show(rows, output=output, title="\nOne person at several sites")
    sys.stdout.write("\nWhat it does not say\n")
    for limit in certificate.limits:
        sys.stdout.write(f"  - {limit}\n")


@cert_app.command("page")
def page(
    file: FileArgument,
    *,
    out: ToOption = None,
    sites: SitesOption = None,
    server: ServerOption = None,
    submitters: SubmittersOption = None,
    auditors: AuditorsOption = None,
) -> None:
    """Write a page that a person can read and print; it says whether the certificate holds.

    Exit code as of `verify`; the page is written in any case.
    """
    from sordino.certificate_page import render
    from sordino_protocols.certificate_check import verify_certificate

    certificate = _read(file)
    found = verify_certificate(
        certificate, _trusted(server, sites, submitters=submitters, auditors=auditors)
    )
    path = out or file.with_suffix(".html")
    path.write_text(render(certificate, found), encoding="utf-8")
    sys.stdout.write(f"{path}\n")
    if found.problems:
        raise typer.Exit(found.exit_code)


@cert_app.command("attach")
def attach_audit(
    file: FileArgument,
    audit: Annotated[Path, typer.Argument(help="The audit.json of `sordino audit run`.")],
    key: Annotated[Path, typer.Option("--key", help="The auditor's private key, NAME.key.")],
    out: ToOption = None,
) -> None:
    """Add an audit's summary to a certificate, signed by its auditor."""
    from sordino_audit.summary import read_summary
    from sordino_protocols.certificate import attach
    from sordino_protocols.signing import load_signer
    from sordino_server.storage import write_whole

    certificate = _read(file)
    summary = read_summary(_content(audit), source=str(audit))
    if summary.run_id != certificate.run_id:
        raise InputError(f"{audit}: an audit of run {summary.run_id}, not {certificate.run_id}")
    attached = attach(certificate, summary, load_signer(key, key.stem))
    path = out or file
    write_whole(path, attached.canonical())
    sys.stdout.write(f"{path}\n")


@cert_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of certificates."""
    from sordino_protocols.certificate import schema_json

    sys.stdout.write(schema_json())


def _read(file: Path) -> "Certificate":
    from sordino_protocols.certificate import read_certificate

    try:
        return read_certificate(_content(file))
    except IntegrityError as error:
        raise IntegrityError(f"{file}: {error}") from None


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"{file}: no such file") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None


def _trusted(
    server: Path | None,
    sites: Path | None,
    *,
    submitters: Path | None,
    auditors: Path | None,
) -> "TrustedKeys":
    from sordino_protocols.certificate_check import TrustedKeys
    from sordino_protocols.signing import TrustStore, load_public_key

    servers = None if server is None else TrustStore({server.stem: load_public_key(server)})
    return TrustedKeys(servers, _store(sites), _store(submitters), _store(auditors))


def _store(directory: Path | None) -> "TrustStore | None":
    from sordino_protocols.signing import load_trust

    return None if directory is None else load_trust(directory)


def _tell(certificate: "Certificate", found: "Verification", *, output: Output) -> None:
    for remark in found.notes:
        note(f"note: {remark}")
    if output.is_json:
        problems = [
            {"ground": each.ground.value, "field": each.field, "reason": each.reason}
            for each in found.problems
        ]
        facts = {"run_id": certificate.run_id, "holds": not problems, "problems": problems}
        show_object({**facts, "notes": list(found.notes)}, output=output)
    elif found.problems:
        for each in found.problems:
            sys.stdout.write(f"{each.ground.value}: {each.field}: {each.reason}\n")
    else:
        show_object({"holds": True, **_summary(certificate)}, output=output)
    if found.problems:
        complain(f"error: the certificate does not hold: {len(found.problems)} problems")
    raise typer.Exit(found.exit_code)


def _summary(certificate: "Certificate") -> dict[str, object]:
    job, table = certificate.job, certificate.composition.table
    whole = table[-1] if table else None
    return {
        "run": certificate.run_id,
        "issued": f"{certificate.issued_at} by {certificate.server.name}",
        "job": f"{job.name}, {job.kind} on {job.dataset}, signed by {job.submitter}",
        "promised": f"epsilon {job.epsilon:g} at delta {job.delta:g} for one {job.unit} at a site",
        "one site": table[0].bound.words if table else "no site took part",
        "all sites": f"epsilon {whole.epsilon:.4g} for a person at {whole.sites} sites"
        if whole
        else "-",
        "evaluation": _evaluation_in_words(certificate),
        "model": certificate.model_sha256 or "none was released",
        **_table_in_words(certificate),
        "audits": ", ".join(
            f"{each.summary.verdict} by {each.auditor.name}" for each in certificate.audits
        )
        or "none",
    }


def _evaluation_in_words(certificate: "Certificate") -> str:
    if certificate.evaluation is None:
        return "there is no model"
    return ", ".join(
        f"{name} {each.value:.3f} ({each.lower:.3f} to {each.upper:.3f})"
        for name, each in certificate.evaluation.figures.items()
    )


def _table_in_words(certificate: "Certificate") -> dict[str, object]:
    """What is told of a table; nothing of a run with a model."""
    table = certificate.table
    if table is None:
        return {}
    words = f"{table.generator}, mode {table.mode}" if table.mode else "counting queries"
    if table.missing:
        words += f"; without {', '.join(table.missing)}"
    told: dict[str, object] = {"table": words}
    if table.epsilon != table.epsilon_without_masks:
        told["under masks"] = (
            f"epsilon {table.epsilon:.4g} as long as the masks hold,"
            f" {table.epsilon_without_masks:.4g} without them"
        )
    return told | {"files": ", ".join(f"{name} {digest}" for name, digest in table.files.items())}


def _site_rows(certificate: "Certificate") -> list[dict[str, object]]:
    return [
        {
            "site": name,
            "planned": site.claims.epsilon_planned,
            "spent (PLD)": site.claims.epsilon_spent_pld,
            "spent (RDP)": site.claims.epsilon_spent_rdp,
            "delta": site.claims.delta,
            "members recognised, at most": f"{site.claims.bound.true_positive_rate:.1%}",
            "budget": site.claims.budget.limit if site.claims.budget else None,
            "left": site.claims.budget.left if site.claims.budget else None,
            "approved by": [each.approver for each in site.claims.approvals],
            "vault without network": site.claims.network_cut_off,
        }
        for name, site in certificate.sites.items()
    ]
