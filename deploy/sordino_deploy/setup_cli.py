"""`sordino site init|enroll|trust` and `sordino server init`: hosts from nothing."""

from pathlib import Path
from typing import Annotated

import typer

from sordino_protocols.errors import InputError
from sordino_protocols.standard_paths import default_config, standard_paths
from sordino_protocols.terminal import note

_OURS = standard_paths().configuration
_SITE = default_config("site")

SiteOption = Annotated[
    Path, typer.Option("--config", "-c", help="The site's configuration.", envvar="SORDINO_SITE")
]
DirectoryOption = Annotated[
    Path, typer.Option("--directory", "-d", help="Where configuration and keys go.")
]
FingerprintOption = Annotated[
    str | None,
    typer.Option(help="The fingerprint that you were told; anything else is refused."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def site_init(
    name: Annotated[str, typer.Argument(help="The site's name, such as cleveland.")],
    server: Annotated[
        str | None, typer.Option(help="host:port of the server; the answer tells it too.")
    ] = None,
    directory: DirectoryOption = _OURS,
) -> None:
    """Make a site's keys, directories and site.toml."""
    from sordino_deploy.newcomers import UNKNOWN_SERVER, init_site

    config = init_site(directory, name, server=server or UNKNOWN_SERVER)
    note(f"made {config}, and keys in {directory / 'keys'} and {directory / 'link'}")
    note(f"next: sordino site enroll --config {config}")
    note(f"then: {directory / 'policy.toml'} (docs/policy.md); without one everything is refused")


def site_enroll(
    config: SiteOption = _SITE,
    answer: Annotated[
        Path | None, typer.Option(help="What the operator sent back; without it: ask.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the request goes; beside the configuration.")
    ] = None,
    fingerprint: FingerprintOption = None,
    yes: YesOption = False,
) -> None:
    """Ask to be let in, or for a new certificate; with --answer, install what came back.

    Certificates are renewed in the same way: a running link takes the new one by itself.
    """
    from sordino_client.config import load_config
    from sordino_deploy.agreement import require_agreement
    from sordino_deploy.enrolment import REQUEST_SUFFIX, read_answer, write_json
    from sordino_deploy.newcomers import install_site, request_site
    from sordino_protocols.files import replace_public

    site = load_config(config)
    if answer is None:
        made = request_site(site)
        path = out or site.directory / f"{site.site.name}{REQUEST_SUFFIX}"
        replace_public(path, write_json(made))
        note(f"send {path} to the operator, and tell them: fingerprint {made.shown.fingerprint}")
        return
    read = read_answer(answer)
    if site.site.server_key.exists() and site.link.ca_certificate.exists():
        note("this site trusts a federation already; the answer must be of the same one")
    else:
        note(f"the federation at {read.server}, fingerprint {read.fingerprint}")
        question = "Is this the fingerprint that the operator told you?"
        require_agreement(question, read.fingerprint, expected=fingerprint, is_agreed=yes)
    install_site(read, site)
    note(f"installed; the server is {load_config(config).link.server}")


def site_trust(
    file: Annotated[
        Path, typer.Argument(help="A person's .pub file or request, or another site's request.")
    ],
    config: SiteOption = _SITE,
    fingerprint: FingerprintOption = None,
    yes: YesOption = False,
) -> None:
    """Trust a submitter's jobs, or another site's key for sums, by what its owner handed over."""
    from sordino_client.config import load_config
    from sordino_client.synthesis.mask_keys import PUBLIC_SUFFIX
    from sordino_deploy.agreement import require_agreement
    from sordino_deploy.enrolment import REQUEST_SUFFIX, read_request
    from sordino_deploy.pki import trust
    from sordino_protocols.files import write_public

    site = load_config(config)
    if not file.name.endswith(REQUEST_SUFFIX):
        trust(file, site.site.submitters)
        note(f"jobs signed by {file.stem} count here; a running site takes it at the next SIGHUP")
        return
    shown = read_request(file).shown
    key = shown.mask_key if shown.role == "site" else shown.signing_key
    if key is None or shown.role == "operator":
        raise InputError(f"{file}: has no key that a site trusts")
    is_peer = shown.role == "site"
    note(f"{shown.role} {shown.name}, fingerprint {shown.fingerprint}")
    question = f"Is this the fingerprint that {shown.name} told you?"
    require_agreement(question, shown.fingerprint, expected=fingerprint, is_agreed=yes)
    directory = site.peers if is_peer else site.site.submitters
    path = directory / f"{shown.name}{PUBLIC_SUFFIX if is_peer else '.pub'}"
    write_public(path, key.encode())
    note(f"made {path}; a running site takes it {'at its next start' if is_peer else 'at SIGHUP'}")


def server_init(
    host: Annotated[
        list[str], typer.Option(help="A DNS name or address of the server; may be repeated.")
    ],
    *,
    directory: DirectoryOption = _OURS,
    listen: Annotated[str, typer.Option(help="The address to listen at.")] = "0.0.0.0",  # noqa: S104
    public_port: Annotated[int, typer.Option(min=1, max=65535, help="For sites.")] = 9443,
    gateway_port: Annotated[int, typer.Option(min=1, max=65535, help="For people.")] = 9444,
    authority: Annotated[
        Path | None,
        typer.Option(help="An authority's directory; without it, pki beside the configuration."),
    ] = None,
) -> None:
    """Make a server's keys, certificate, directories and server.toml."""
    from sordino_deploy.server_setup import init_server
    from sordino_protocols.certificates import fingerprint, read_certificate

    config = init_server(
        directory,
        hosts=host,
        listen=listen,
        public_port=public_port,
        gateway_port=gateway_port,
        authority=authority,
    )
    certificate = read_certificate(directory / "pki" / "ca.crt")
    note(f"made {config}; its authority has the fingerprint {fingerprint(certificate)}")
    note(f"next: sordino server run --config {config}")
    note("then, for each site and person that asks: sordino pki approve REQUEST")
