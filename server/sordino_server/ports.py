"""Where a running server listens, for those on its host who want to know."""

import json
from pathlib import Path

PORTS = "ports.json"


def read_ports(state: Path) -> dict[str, int] | None:
    """The ports of a running server; None while it is not ready."""
    try:
        raw = json.loads((state / PORTS).read_bytes())
    except FileNotFoundError:
        return None
    return {str(name): int(port) for name, port in raw.items()}
