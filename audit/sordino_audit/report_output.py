"""What the commands of `sordino audit` have alike: options, and how a document is shown."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.errors import InputError
from sordino_protocols.terminal import Output, note, show, show_object

if TYPE_CHECKING:
    from sordino_audit.audit_document import AuditDocument

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="audit.toml; default: the one that `sordino paths` names, if it exists.",
        envvar="SORDINO_AUDIT",
    ),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, json or jsonl.")]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Write the page to this file.")]
ReportsOption = Annotated[
    Path | None, typer.Option("--reports", help="The series of reports; default: audit.toml's.")
]
SiteOption = Annotated[Path | None, typer.Option("--site", help="The site's site.toml.")]


def write_page(document: "AuditDocument", path: Path | None) -> None:
    """Write the page, where one is wanted; of a site's own audit, for its owner alone (0600).

    Raises:
        InputError: the file cannot be written.
    """
    if path is None:
        return
    from sordino_audit.report_page import render  # noqa: PLC0415  # brings matplotlib
    from sordino_client.outbox import write_durably  # noqa: PLC0415

    page = render(document)
    try:
        if document.kind == "site":
            write_durably(path, page.encode())
        else:
            path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    note(f"page: {path}")


def tell_document(document: "AuditDocument", output: Output) -> None:
    """The whole document for a program; for a person, what it comes to."""
    if output.is_json:
        show_object(document.model_dump(mode="json"), output=output)
        return
    from sordino_audit.audit_words import bound_in_words  # noqa: PLC0415  # brings scipy

    note(f"{document.verdict.value}: {document.sentence}")
    failed = [each for each in document.probes if not each.is_passed]
    for each in failed:
        note(f"failed: {each.name}: {each.message}")
    rows: list[Mapping[str, object]] = [each.model_dump(mode="json") for each in document.bounds]
    if rows:
        show(rows, output=output, title=bound_in_words(document))
    facts = {"subject": document.subject, "issued_at": document.issued_at, "hash": document.hash}
    if document.probes:
        facts["checks"] = f"{len(document.probes) - len(failed)} of {len(document.probes)} passed"
    show_object(facts, output=output)
