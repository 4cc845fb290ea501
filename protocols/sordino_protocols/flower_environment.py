"""The environment that keeps Flower from phoning home. Imports no Flower: it is set before that."""

_LOOPBACK = "127.0.0.1,localhost,::1"


def environment() -> dict[str, str]:
    """Variables for every process that imports Flower: no telemetry, no update check, no proxy.

    `FLWR_HOME` is the caller's to add: it is a place, and this module knows none.
    """
    return {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_TELEMETRY_LOGGING": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "NO_PROXY": _LOOPBACK,
        "no_proxy": _LOOPBACK,
    }
