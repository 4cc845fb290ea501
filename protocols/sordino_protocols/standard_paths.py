"""Where things lie unless somebody says otherwise: the system's directories, or a user's own.

A system's administrator has `/etc/sordino` and its like; anybody else the directories that the XDG
base directory specification names. Whoever looks for a configuration and has none of their own
reads the system's: a colleague at a site's host can look without being root.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

Role = Literal["site", "server", "audit", "profile"]
"""Whose configuration a file is; the file is called after it."""

ROLES: tuple[Role, ...] = ("site", "server", "audit", "profile")


@dataclass(frozen=True, slots=True)
class StandardPaths:
    """The directories of one user, or of the system.

    Attributes:
        configuration: files that people write.
        state: what must outlive a restart.
        logs: what daemons and people did.
        runtime: sockets; emptied by a reboot.
    """

    configuration: Path
    state: Path
    logs: Path
    runtime: Path

    def config_file(self, role: Role) -> Path:
        """Where the configuration of a role would lie; it need not be there."""
        return self.configuration / f"{role}.toml"


SYSTEM = StandardPaths(
    configuration=Path("/etc/sordino"),
    state=Path("/var/lib/sordino"),
    logs=Path("/var/log/sordino"),
    runtime=Path("/run/sordino"),
)


def standard_paths(
    environ: Mapping[str, str] | None = None, *, is_root: bool | None = None
) -> StandardPaths:
    """The directories of whoever runs this.

    Args:
        environ: the environment; None means this process's.
        is_root: whether that is the administrator; None asks the kernel.
    """
    variables = os.environ if environ is None else environ
    if os.geteuid() == 0 if is_root is None else is_root:
        return SYSTEM
    home = _home(variables)
    if home is None:
        return SYSTEM
    state = _named(variables, "XDG_STATE_HOME", home / ".local" / "state") / "sordino"
    runtime = _named(variables, "XDG_RUNTIME_DIR", None)
    return StandardPaths(
        configuration=_named(variables, "XDG_CONFIG_HOME", home / ".config") / "sordino",
        state=state,
        logs=state / "log",
        runtime=state / "run" if runtime is None else runtime / "sordino",
    )


def default_config(
    role: Role,
    environ: Mapping[str, str] | None = None,
    *,
    is_root: bool | None = None,
    system: StandardPaths = SYSTEM,
) -> Path:
    """The configuration that a command reads when it is given none.

    One's own; where there is none, the system's, if that is there. A profile is a person's, also
    the administrator's.
    """
    is_system = False if role == "profile" else is_root
    own = standard_paths(environ, is_root=is_system).config_file(role)
    shared = system.config_file(role)
    # A directory that may not be looked into holds nothing for us; `Path.exists` would raise.
    return shared if not os.path.exists(own) and os.path.exists(shared) else own  # noqa: PTH110


def _home(variables: Mapping[str, str]) -> Path | None:
    """Somebody's home; None for an account without one, such as a container's."""
    if named := variables.get("HOME"):
        return Path(named)
    try:
        return Path.home()
    except RuntimeError:
        return None


@overload
def _named(variables: Mapping[str, str], name: str, default: Path) -> Path: ...


@overload
def _named(variables: Mapping[str, str], name: str, default: None) -> Path | None: ...


def _named(variables: Mapping[str, str], name: str, default: Path | None) -> Path | None:
    """The directory that a variable names; a relative one is ignored, as XDG asks."""
    named = Path(variables.get(name, ""))
    return named if named.is_absolute() else default
