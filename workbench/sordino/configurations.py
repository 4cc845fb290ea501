"""The configurations that a person may have, whichever role they play: found, read, and listed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sordino.profile import read_profile
from sordino_audit.audit_config import read_audit
from sordino_client.config import read_site
from sordino_protocols.configuration import Setting, settings_environment
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.standard_paths import ROLES, Role, default_config
from sordino_server.config import read_server


@dataclass(frozen=True, slots=True)
class Configuration:
    """A file that somebody wrote.

    Attributes:
        role: whose it is.
        path: where it lies.
    """

    role: Role
    path: Path

    def settings(self, environ: Mapping[str, str]) -> tuple[Setting, ...]:
        """Every key as it counts, paths as they are used.

        Args:
            environ: the environment in which it is read.

        Raises:
            NotFoundError: there is no such file.
            InputError: it is wrong; names file (or variable), key and what was expected.
        """
        directory = self.path.absolute().parent
        return tuple(
            Setting(each.key, _placed(each.value, directory), each.origin)
            for each in _settings(self.role, self.path, environ)
        )


def chosen(
    *, site: Path | None, server: Path | None, audit: Path | None, profile: Path | None
) -> Sequence[Configuration]:
    """The configurations that a command is about.

    What was named; where nothing was, what the environment names (SORDINO_SITE, SORDINO_SERVER,
    SORDINO_AUDIT, SORDINO_PROFILE), and every configuration that lies in its default place.

    Raises:
        NotFoundError: nothing was named, and there is none.
    """
    named: dict[Role, Path | None] = {
        "site": site,
        "server": server,
        "audit": audit,
        "profile": profile,
    }
    found = [Configuration(role, path) for role, path in named.items() if path is not None]
    if found:
        return found
    places = {role: default_config(role) for role in ROLES}
    for role, place in places.items():
        if variable := os.environ.get(f"SORDINO_{role.upper()}"):
            found.append(Configuration(role, Path(variable)))
        elif place.exists():
            found.append(Configuration(role, place))
    if not found:
        looked = ", ".join(str(each) for each in places.values())
        raise NotFoundError(f"no configuration here: none of {looked}; name one, as by --site FILE")
    return found


def environment_with(
    settings: Sequence[str], configurations: Sequence[Configuration]
) -> Mapping[str, str]:
    """The environment in which a configuration is read with what `--set` says.

    Raises:
        InputError: a setting is misspelled, or there are several configurations that it may mean.
    """
    if not settings:
        return os.environ
    if len(configurations) > 1:
        raise InputError("--set is about one configuration: name it, as by --site FILE")
    return {**os.environ, **settings_environment(configurations[0].role, settings)}


def _settings(role: Role, path: Path, environ: Mapping[str, str]) -> tuple[Setting, ...]:
    match role:
        case "site":
            return read_site(path, environ).settings()
        case "server":
            return read_server(path, environ).settings()
        case "audit":
            return read_audit(path, environ).settings()
        case "profile":
            return read_profile(path, environ).settings()


def _placed(value: object, directory: Path) -> object:
    return str(directory / value) if isinstance(value, Path) else value
