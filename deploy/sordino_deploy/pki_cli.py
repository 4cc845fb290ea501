"""`sordino pki`: who belongs to the federation, decided by the operator on the server's host.

Two commands are for the newcomer: `request` and `install` (a site has its own, `sordino site`).
"""

import datetime as dt
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.standard_paths import default_config, standard_paths
from sordino_protocols.terminal import Output, confirm, note, show, show_object

if TYPE_CHECKING:
    from sordino_deploy.enrolment import Shown
    from sordino_server.config import ServerConfig

DEFAULT_CONFIG = default_config("server")
DEFAULT_PERSON = Path("~/.config/sordino")

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", help="The server's configuration.", envvar="SORDINO_SERVER"),
]
AuthorityOption = Annotated[
    Path | None,
    typer.Option(
        "--authority",
        help="The authority's directory; without it, beside the server's configuration.",
        envvar="SORDINO_AUTHORITY",
    ),
]
DirectoryOption = Annotated[
    Path, typer.Option("--directory", "-d", help="Where your keys and your profile are.")
]
FingerprintOption = Annotated[
    str | None,
    typer.Option(help="The fingerprint that you were told; anything else is refused."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, json or jsonl.")]


class Person(StrEnum):
    """What a person can ask to be."""

    SUBMITTER = "submitter"
    OPERATOR = "operator"


pki_app = typer.Typer(
    no_args_is_help=True, help="Decide who belongs to the federation; renew and revoke."
)


@pki_app.command("init")
def init(
    authority: Annotated[
        Path, typer.Option(help="Where the authority's key and records go.")
    ] = standard_paths().configuration / "pki",
    name: Annotated[str, typer.Option(help="What it is called.")] = "sordino-authority",
) -> None:
    """Make a certificate authority; `sordino server init` makes one if there is none."""
    from sordino_deploy.issued import CERTIFICATE
    from sordino_deploy.pki import create_authority
    from sordino_protocols.certificates import fingerprint

    made = create_authority(authority, name=name)
    note(f"made {authority / CERTIFICATE}, fingerprint {fingerprint(made.certificate)}")
    note(f"keep {authority / 'ca.key'} where few can read it: it is needed to approve and revoke")


@pki_app.command("request")
def request(
    name: Annotated[str, typer.Argument(help="Your name in the federation.")],
    role: Annotated[Person, typer.Option(help="submitter or operator.")] = Person.SUBMITTER,
    directory: DirectoryOption = DEFAULT_PERSON,
) -> None:
    """Make a person's keys, and the request that the operator approves."""
    from sordino_deploy.enrolment import REQUEST_SUFFIX, write_json
    from sordino_deploy.newcomers import request_person
    from sordino_protocols.files import replace_public

    made = request_person(directory.expanduser(), name, role=role.value)
    path = directory.expanduser() / f"{name}{REQUEST_SUFFIX}"
    replace_public(path, write_json(made))
    note(f"send {path} to the operator, and tell them: fingerprint {made.shown.fingerprint}")


@pki_app.command("install")
def install(
    answer: Annotated[Path, typer.Argument(help="What the operator sent back.")],
    directory: DirectoryOption = DEFAULT_PERSON,
    fingerprint: FingerprintOption = None,
    yes: YesOption = False,
) -> None:
    """Put a person's certificate beside the keys, and write the profile."""
    from sordino_deploy.agreement import require_agreement
    from sordino_deploy.enrolment import read_answer
    from sordino_deploy.newcomers import install_person

    read = read_answer(answer)
    note(f"the federation at {read.gateway}, fingerprint {read.fingerprint}")
    require_agreement(
        "Is this what the operator told you?",
        read.fingerprint,
        expected=fingerprint,
        is_agreed=yes,
    )
    note(f"installed; your profile is {install_person(read, directory.expanduser())}")


@pki_app.command("show")
def show_file(
    file: Annotated[Path, typer.Argument(help="A request, an answer or a certificate.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Say whom a file speaks of, with the fingerprint to compare."""
    from sordino_deploy.enrolment import ANSWER_SUFFIX, REQUEST_SUFFIX, read_answer, read_request

    if file.name.endswith(REQUEST_SUFFIX):
        show_object(_describe_request(read_request(file).shown), output=output)
    elif file.name.endswith(ANSWER_SUFFIX):
        answer = read_answer(file)
        facts = answer.model_dump(include={"name", "role", "server", "gateway", "server_key"})
        facts["server_key"] = answer.server_key.strip()
        show_object({**facts, "fingerprint": answer.fingerprint}, output=output)
    else:
        show_object(_describe_certificate(file), output=output)


@pki_app.command("approve")
def approve(
    request_file: Annotated[Path, typer.Argument(metavar="REQUEST", help="What was sent.")],
    *,
    config: ConfigOption = DEFAULT_CONFIG,
    authority: AuthorityOption = None,
    out: Annotated[Path | None, typer.Option(help="The answer; beside the request.")] = None,
    days: Annotated[int, typer.Option(min=1, help="How long the certificate is valid.")] = 397,
    fingerprint: FingerprintOption = None,
    yes: YesOption = False,
) -> None:
    """Let a site or a person in, or renew its certificate; a running server notices by itself."""
    from sordino_deploy import approving
    from sordino_deploy.agreement import require_agreement
    from sordino_deploy.enrolment import ANSWER_SUFFIX, REQUEST_SUFFIX, read_request, write_json
    from sordino_protocols.files import replace_public
    from sordino_server.config import load_config

    server, asked = load_config(config), read_request(request_file)
    name = asked.shown.name
    if approving.is_enrolled(asked.shown, server):
        note(f"{asked.shown.role} {name} is enrolled with these keys: a new certificate")
    else:
        for key, value in _describe_request(asked.shown).items():
            note(f"  {key:<12} {value}")
        question = f"Is this the fingerprint that {name} told you?"
        require_agreement(question, asked.shown.fingerprint, expected=fingerprint, is_agreed=yes)
    keys = _authority(authority, server)
    answer = approving.approve(asked, server, authority=keys, days=days)
    stem = request_file.name.removesuffix(REQUEST_SUFFIX)
    path = out or request_file.with_name(f"{stem}{ANSWER_SUFFIX}")
    replace_public(path, write_json(answer))
    note(f"send {path} to {name}, and tell them: fingerprint {answer.fingerprint}")


@pki_app.command("list")
def list_issued(
    config: ConfigOption = DEFAULT_CONFIG,
    authority: AuthorityOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List every certificate that was issued, and whether it counts."""
    from sordino_deploy.issued import issued
    from sordino_server.config import load_config

    now = dt.datetime.now(dt.UTC)
    rows = [
        {
            "name": each.name,
            "role": each.role,
            "state": each.state(now),
            "expires": each.not_after.strftime("%Y-%m-%d"),
            "days_left": max(0, (each.not_after - now).days),
            "serial": f"{each.serial:x}",
        }
        for each in issued(_authority(authority, load_config(config)))
    ]
    show(rows, output=output)


@pki_app.command("renew")
def renew(
    config: ConfigOption = DEFAULT_CONFIG,
    authority: AuthorityOption = None,
    days: Annotated[int, typer.Option(min=1, help="How long it is valid.")] = 397,
) -> None:
    """Renew the server's certificate; a running server serves with it within seconds.

    A site asks again by `sordino site enroll`, a person by `sordino pki request`.
    """
    from sordino_deploy.server_setup import renew_server
    from sordino_protocols.certificates import not_after
    from sordino_server.config import load_config

    server = load_config(config)
    path = renew_server(server, authority=_authority(authority, server), days=days)
    note(f"{path}: expires {not_after(path):%Y-%m-%d}")


@pki_app.command("renew-ca")
def renew_ca(
    config: ConfigOption = DEFAULT_CONFIG,
    authority: AuthorityOption = None,
    days: Annotated[int, typer.Option(min=1, help="How long it counts from now on.")] = 3650,
) -> None:
    """Renew the authority: same name, same key, a later last day. No certificate changes.

    The server goes by it within seconds. Everybody else gets it with the next answer, and needs it
    by the old one's last day: renew it more than the life of a certificate before that.
    """
    from sordino_deploy import approving
    from sordino_protocols.certificates import fingerprint, not_after
    from sordino_server.config import load_config

    server = load_config(config)
    before = not_after(server.gateway.client_ca)
    made = approving.renew_authority(server, authority=_authority(authority, server), days=days)
    note(f"the authority counts until {made.not_valid_after_utc:%Y-%m-%d},")
    note(f"fingerprint {fingerprint(made)}")
    note(f"sites and people need it by {before:%Y-%m-%d}: it comes with their next answer")


@pki_app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="A site or a person.")],
    config: ConfigOption = DEFAULT_CONFIG,
    authority: AuthorityOption = None,
    yes: YesOption = False,
) -> None:
    """Shut out a site or a person: keys and certificates count no more, within a minute.

    A running round goes on without the site; what it answers from now on does not count. Jobs that
    a person queued are refused when their turn comes; one that runs is finished.
    """
    from sordino_deploy import approving
    from sordino_server.config import load_config

    confirm(f"Shut out {name}? Coming back needs new keys.", yes=yes)
    server = load_config(config)
    for each in approving.revoke(name, server, authority=_authority(authority, server)):
        note(f"revoked {each}")


def _authority(authority: Path | None, config: "ServerConfig") -> Path:
    from sordino_deploy.approving import authority_directory

    return authority or authority_directory(config)


def _describe_request(shown: "Shown") -> dict[str, object]:
    return {
        "name": shown.name,
        "role": shown.role,
        "signing_key": shown.signing_key.strip(),
        "node_key": (shown.node_key or "-").strip(),
        "mask_key": (shown.mask_key or "-").strip(),
        "fingerprint": shown.fingerprint,
    }


def _describe_certificate(file: Path) -> dict[str, object]:
    from sordino_deploy.pki import certificate_hosts
    from sordino_protocols.certificates import common_name, fingerprint, read_certificate, role

    certificate = read_certificate(file)
    return {
        "name": common_name(certificate),
        "role": role(certificate) or "-",
        "issuer": certificate.issuer.rfc4514_string(),
        "hosts": certificate_hosts(certificate) or None,
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "serial": f"{certificate.serial_number:x}",
        "fingerprint": fingerprint(certificate),
    }
