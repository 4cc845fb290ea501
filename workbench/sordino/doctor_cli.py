"""`sordino doctor`: what is wrong on this host, and what to do about it."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from sordino.config_cli import AuditOption, OutputOption, ProfileOption, ServerOption, SiteOption
from sordino_protocols.errors import ExitCode
from sordino_protocols.terminal import Output, note, show_json

if TYPE_CHECKING:
    from sordino.configurations import Configuration
    from sordino_protocols.diagnosis import Diagnosis

    Found = tuple[Configuration, tuple[Diagnosis, ...]]

_LOOK_SECONDS = 1.0
_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(
    site: SiteOption = None,
    server: ServerOption = None,
    audit: AuditOption = None,
    profile: ProfileOption = None,
    *,
    wait: Annotated[
        float, typer.Option(help="Seconds to look again in, until nothing is wrong.", min=0)
    ] = 0.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check everything that this host needs, and say how to mend what is wrong; changes nothing.

    Without an option, every configuration in its default place is looked after. Exit code 1 if
    something does not work; warnings alone leave it 0. With --wait, a host that is starting is
    given time: what is shown is how it was in the end.
    """
    from sordino.configurations import chosen

    configurations = chosen(site=site, server=server, audit=audit, profile=profile)
    found = _look(configurations, until=time.monotonic() + wait)
    if output.is_json:
        show_json([_facts(each, one) for each, ones in found for one in ones], output=output)
    else:
        _tell(found)
    count = Counter(one.outcome for _, ones in found for one in ones)
    note(f"{count.total()} checks: {count['problem']} problems, {count['warning']} warnings")
    if count["problem"]:
        raise typer.Exit(ExitCode.ERROR)


def _diagnoses(each: "Configuration") -> "Iterator[Diagnosis]":
    from sordino.people_doctor import diagnose_audit, diagnose_profile
    from sordino_client.site_doctor import diagnose_site
    from sordino_server.server_doctor import diagnose_server

    match each.role:
        case "site":
            return diagnose_site(each.path)
        case "server":
            return diagnose_server(each.path)
        case "audit":
            return diagnose_audit(each.path)
        case "profile":
            return diagnose_profile(each.path)


def _look(configurations: "Sequence[Configuration]", *, until: float) -> "list[Found]":
    """What is so; looked at again while something is wrong and there is time."""
    while True:
        found = [(each, tuple(_diagnoses(each))) for each in configurations]
        is_wrong = any(one.outcome == "problem" for _, ones in found for one in ones)
        if not is_wrong or time.monotonic() >= until:
            return found
        time.sleep(_LOOK_SECONDS)


def _tell(found: "list[Found]") -> None:
    """A line for each check; below it, what to do."""
    console = Console(soft_wrap=True, highlight=False)
    for configuration, ones in found:
        console.print(Text(f"{configuration.role}: {configuration.path}", style="bold"))
        for each in ones:
            line = Text("  ").append(f"{each.outcome:<8}", style=_STYLES[each.outcome])
            console.print(line.append(f" {each.check:<18} {each.detail}"))
            if each.fix:
                console.print(Text(f"{'':<29} fix: {each.fix}"))


def _facts(each: "Configuration", found: "Diagnosis") -> dict[str, object]:
    return {
        "for": each.role,
        "file": str(each.path),
        "check": found.check,
        "outcome": found.outcome,
        "detail": found.detail,
        "fix": found.fix,
    }
