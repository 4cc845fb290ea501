"""What the server needs in order to work, as checks for `/readyz`, metrics and the status page."""

import datetime as dt
import http.client
from collections.abc import Callable, Mapping

from sqlalchemy.exc import SQLAlchemyError

from sordino_protocols.errors import SordinoError
from sordino_protocols.health import Checks, Finding
from sordino_protocols.host_checks import Clock, certificate_lasts, writable
from sordino_server.config import ServerConfig
from sordino_server.listeners import LOOPBACK
from sordino_server.state_location import is_state_at_head
from sordino_server.superlink import SuperLink

_ANSWER_SECONDS = 2.0


def server_checks(
    config: ServerConfig, superlink: SuperLink, membership_problem: Callable[[], str | None]
) -> Checks:
    """Everything without which the server cannot do its work.

    Args:
        config: of the server.
        superlink: that it runs.
        membership_problem: why a change of keys does not count yet, if one does not.
    """
    state = config.server.state
    checks: Mapping[str, Callable[[], Finding]] = {
        "state_writable": lambda: writable(state),
        "database": lambda: _database(superlink),
        "migrations": lambda: _migrations(config),
        "clock": Clock(state).check,
        "certificate": lambda: certificate_lasts(config.server.certificate, now=_now()),
        "superlink": lambda: _superlink(superlink.admin_port),
        "superexec": lambda: _superexec(superlink),
        "members": lambda: _members(membership_problem()),
    }
    return Checks(checks)


def _database(superlink: SuperLink) -> Finding:
    try:
        count = len(superlink.nodes())
    except SQLAlchemyError:
        return Finding(is_ok=False, detail="the database does not answer")
    return Finding(is_ok=True, detail=f"{count} sites are registered")


def _migrations(config: ServerConfig) -> Finding:
    """Whether the tables of runs and heads are of this version; there are none in a directory."""
    try:
        is_ok = is_state_at_head(config)
    except SordinoError as error:
        return Finding(is_ok=False, detail=str(error))
    detail = "of this version" if is_ok else "the tables are of another version: restart the server"
    return Finding(is_ok=is_ok, detail=detail)


def _superlink(port: int) -> Finding:
    """Ask it what it answers to anybody on this host."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return Finding(is_ok=False, detail="the SuperLink does not answer")
    finally:
        connection.close()
    return Finding(is_ok=status == http.client.OK, detail=f"the SuperLink answers {status}")


def _superexec(superlink: SuperLink) -> Finding:
    is_up = superlink.superexec_pid is not None
    detail = "runs can be started" if is_up else "no process that starts runs: see superexec.log"
    return Finding(is_ok=is_up, detail=detail)


def _members(problem: str | None) -> Finding:
    detail = problem or "keys and certificates count as they are on the disk"
    return Finding(is_ok=problem is None, detail=detail)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
