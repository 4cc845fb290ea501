"""A server's host from nothing, and its certificate anew: `sordino server init`, `pki renew`."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from sordino_deploy import issued
from sordino_deploy.newcomers import SYSTEM_DIRECTORY
from sordino_deploy.pki import (
    CERTIFICATE_DAYS,
    LOOPBACK_HOSTS,
    Role,
    certificate_hosts,
    check_hosts,
    create_authority,
    create_request,
    load_key,
    sign_own_request,
)
from sordino_protocols.certificates import common_name, read_certificate
from sordino_protocols.errors import InputError
from sordino_protocols.files import replace_public, write_public
from sordino_protocols.signing import save_keypair
from sordino_server.config import ServerConfig

NAME = "server"
"""What sites call a server; their `server_key` is named after it."""

_AUTHORITY_NAME = "sordino-authority"
_DIRECTORIES = ("sites", "nodes", "submitters")


def init_server(
    directory: Path,
    *,
    hosts: Sequence[str],
    listen: str = "0.0.0.0",  # noqa: S104 - a server is there for others; the guide's firewall says whom
    public_port: int = 9443,
    gateway_port: int = 9444,
    authority: Path | None = None,
) -> Path:
    """Make a server's keys, certificate, directories and `server.toml`.

    Args:
        directory: of the configuration.
        hosts: DNS names and addresses by which others reach the server; the first is told to them.
        listen: the address of its listeners.
        public_port: for sites.
        gateway_port: for people.
        authority: an authority's directory, made if it holds none; None: `pki` beside the
            configuration. Its key is needed to sign, and never by a running server.

    Returns:
        the configuration's path.

    Raises:
        InputError: a host is none, or a file is there already.
    """
    config = directory / "server.toml"
    if config.exists():
        raise InputError(f"{config}: exists already; this server was made before")
    if not hosts:
        raise InputError("a server needs at least one host by which others reach it")
    check_hosts(hosts)
    public = directory / "pki" / issued.CERTIFICATE
    signing = public.parent if authority is None else authority
    if not (signing / issued.CERTIFICATE).exists():
        create_authority(signing, name=_AUTHORITY_NAME)
    issued.publish(signing, public)
    request = create_request(directory / "tls", NAME)
    names = tuple(dict.fromkeys((*hosts, *LOOPBACK_HOSTS)))
    pem = issued.certify(signing, request, name=NAME, role=Role.SERVER, hosts=names)
    write_public(directory / "tls" / f"{NAME}.crt", pem)
    save_keypair(directory / "keys", NAME)
    for each in _DIRECTORIES:
        (directory / each).mkdir(exist_ok=True)
    address = f"[{listen}]" if ":" in listen else listen
    text = _server_toml(directory, f"{address}:{public_port}", f"{address}:{gateway_port}")
    write_public(config, text.encode())
    return config


def renew_server(config: ServerConfig, *, authority: Path, days: int = CERTIFICATE_DAYS) -> Path:
    """Replace a server's certificate by a new one of the same key, for the same hosts.

    A running server serves with it within seconds.

    Returns:
        the certificate's path.

    Raises:
        NotFoundError: the key, the certificate or the authority is absent.
        InputError: one of them cannot be used.
    """
    section = config.server
    old = read_certificate(section.certificate)
    name = common_name(old)
    request = sign_own_request(load_key(section.private_key), name)
    hosts = certificate_hosts(old)
    pem = issued.certify(authority, request, name=name, role=Role.SERVER, hosts=hosts, days=days)
    replace_public(section.certificate, pem)
    return section.certificate


def _server_toml(directory: Path, public: str, gateway: str) -> str:
    is_system = directory == SYSTEM_DIRECTORY
    state = "/var/lib/sordino/server" if is_system else "state"
    return textwrap.dedent(
        f"""\
        # What each key means: docs/configuration.md

        [server]
        name = "{NAME}"
        state = "{state}"
        public = "{public}"
        certificate = "tls/{NAME}.crt"
        private_key = "tls/{NAME}.key"
        signing_key = "keys/{NAME}.key"
        sites = "sites"
        nodes = "nodes"
        submitters = "submitters"
        client_ca = "pki/{issued.CERTIFICATE}"

        [gateway]
        address = "{gateway}"
        client_ca = "pki/{issued.CERTIFICATE}"

        [metrics]
        address = "127.0.0.1:9464"

        [page]
        address = "127.0.0.1:9466"
        """
    )
