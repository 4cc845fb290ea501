"""Who belongs to the federation: enrolled sites, by the keys that a person put into directories.

A site is shut out for good: Flower never lets its node key in again.
"""

from dataclasses import dataclass
from pathlib import Path

from sordino_protocols.errors import InputError, SordinoError
from sordino_protocols.signing import check_name, load_trust
from sordino_server.superlink import SuperLink


@dataclass(frozen=True, slots=True)
class EnrolledSite:
    """A site that may join.

    Attributes:
        name: the site's name.
        node_key: EC P-384 public key, OpenSSH: lets its link in.
    """

    name: str
    node_key: bytes


def enrolled_sites(sites: Path, nodes: Path) -> list[EnrolledSite]:
    """Sites that have both keys: a node key to get in, a signing key to be believed.

    Raises:
        NotFoundError: one of the directories is missing.
        InputError: a file is no key, or a site has one of the two only.
    """
    signing = set(load_trust(sites).keys)
    node_keys = {check_name(path.stem): path.read_bytes() for path in sorted(nodes.glob("*.pub"))}
    for name in sorted(signing ^ set(node_keys)):
        missing = nodes if name in signing else sites
        raise InputError(
            f"{missing}/{name}.pub: missing; a site needs a node key and a signing key"
        )
    return [EnrolledSite(name, key) for name, key in node_keys.items()]


def enrol(superlink: SuperLink, sites: list[EnrolledSite]) -> None:
    """Let the sites in, and shut out whoever is no longer enrolled.

    Raises:
        InputError: a key is unusable, or belongs to another site.
    """
    for site in sites:
        superlink.register_node(site.name, site.node_key)
    names = {site.name for site in sites}
    for node in superlink.nodes():
        if node.name not in names:
            superlink.unregister_node(node.name)


def update(superlink: SuperLink, sites: Path, nodes: Path) -> list[str]:
    """As `enrol`, for a server that runs: what is wrong with one site stops no other's change.

    A site with one of its two keys stays as it was: its files may be on their way.

    Returns:
        what is wrong, in words; empty if all is as the directories say.
    """
    try:
        signing = set(load_trust(sites).keys)
        node_keys = {check_name(path.stem): path.read_bytes() for path in nodes.glob("*.pub")}
    except (SordinoError, OSError) as error:
        return [str(error)]
    for node in superlink.nodes():
        if node.name not in signing | set(node_keys):
            superlink.unregister_node(node.name)
    problems = [
        f"site {name!r} has one of its two keys only" for name in sorted(signing ^ set(node_keys))
    ]
    for name in sorted(signing & set(node_keys)):
        try:
            superlink.register_node(name, node_keys[name])
        except InputError as error:
            problems.append(str(error))
    return problems
