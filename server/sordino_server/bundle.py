"""The Flower app bundle of a run: a name and nothing else.

Flower starts a run from a bundle, and a bundle usually carries code. Ours carries a readme: the
server app is the installed package, and a site never asks for a bundle at all.
"""

from collections.abc import Mapping

import tomli_w
from flwr.cli.build import build_fab_from_files

_README = "# sordino\n\nThis bundle carries no code: a run is described by its job.\n"
_NO_CLIENT = "sordino_server.app:no_client"  # Flower insists on a name; nothing loads it


def build_fab(server_app: str, *, run_config: Mapping[str, str] | None = None) -> bytes:
    """A bundle without code.

    Args:
        server_app: the server app to run, `package.module:attribute`, of an installed package.
        run_config: the settings that a run may override, with their defaults. Flower refuses an
            override of a setting that is not named here.

    Raises:
        ValueError: Flower refuses the bundle.
    """
    project = {
        "project": {
            "name": "sordino",
            "version": "1.0.0",
            "description": "A run of sordino",
            "license": "Apache-2.0",
        },
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "sordino",
                    "fab-include": ["/README.md"],
                    "components": {"serverapp": server_app, "clientapp": _NO_CLIENT},
                    "config": dict(run_config or {}),
                }
            }
        },
    }
    files = {"pyproject.toml": tomli_w.dumps(project).encode(), "README.md": _README.encode()}
    return build_fab_from_files(files)[0]
