"""What is wrong on a host, and what to do about it: the checks of `sordino doctor`.

A diagnosis is for the person who can mend it. It names files and addresses, never a record; what
a check found is in words of ours. Nothing here changes anything on the host.
"""

import datetime as dt
import http.client
import json
import os
import shutil
import socket
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

from sordino_protocols.certificates import not_after
from sordino_protocols.errors import InputError, NotFoundError, SordinoError, UnreachableError
from sordino_protocols.files import require_private
from sordino_protocols.health import Check, read_checks

Outcome = Literal["ok", "warning", "problem"]

LEAST_FREE_BYTES = 1024**3
"""Less than this free where state is kept is worth a warning."""

LARGEST_SKEW_SECONDS = 60.0
SHORTEST_VALIDITY = dt.timedelta(days=30)
_LAST_DAY = dt.timedelta(hours=24)
_LONGEST_SOCKET = 107  # bytes of a Unix socket's path, says the kernel
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One check's outcome.

    Attributes:
        check: what was looked at.
        outcome: "problem" is something that does not work; "warning" something that soon may not,
            or that only a person can judge.
        detail: what was found.
        fix: what to do; empty where nothing is wrong.
    """

    check: str
    outcome: Outcome
    detail: str
    fix: str = ""


class DoubtError(SordinoError):
    """What a check found is no error, and somebody should look at it."""


def examine(check: str, look: Callable[[], str], *, fix: str) -> Diagnosis:
    """Run one check.

    Args:
        check: its name.
        look: returns what it found; raises `DoubtError` for a warning, any other `SordinoError` for
            a problem.
        fix: what to do about either.
    """
    try:
        return Diagnosis(check, "ok", look())
    except DoubtError as doubt:
        return Diagnosis(check, "warning", str(doubt), fix)
    except SordinoError as error:
        return Diagnosis(check, "problem", str(error), fix)


def look_at_state(directory: Path) -> str:
    """A directory of a daemon's state: its owner's alone, writable, with room.

    Raises:
        DoubtError: there is little room.
        InputError: others may look into it, or it cannot be written.
    """
    try:
        mode = directory.stat().st_mode
    except FileNotFoundError:
        return f"{directory}: not there yet; it is made at the first start"
    except OSError as error:
        raise InputError(f"{directory}: {error.strerror}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise InputError(f"{directory}: others may look into it ({stat.filemode(mode)})")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InputError(f"{directory}: cannot be written by this user")
    free = shutil.disk_usage(directory).free
    if free < LEAST_FREE_BYTES:
        raise DoubtError(f"{directory}: only {free / 1024**2:.0f} MiB are free")
    return f"{directory}: {free / 1024**3:.1f} GiB free"


def look_at_secret(path: Path) -> str:
    """A private key's file: there, and nobody else's to read.

    Raises:
        NotFoundError: there is no such file.
        InputError: it cannot be read, or others may read it.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    require_private(path, mode)
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: cannot be read by this user")
    return str(path)


def look_at_certificate(path: Path, *, now: dt.datetime | None = None) -> str:
    """A certificate: readable, and valid for a while.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is none, or has less than a day left.
        DoubtError: it has less than thirty days left.
    """
    ends = not_after(path)
    left = ends - (now or dt.datetime.now(dt.UTC))
    if left < _LAST_DAY:
        raise InputError(f"{path}: expires or expired on {ends:%Y-%m-%d %H:%M} UTC")
    if left < SHORTEST_VALIDITY:
        raise DoubtError(f"{path}: expires on {ends:%Y-%m-%d}, in {left.days} days")
    return f"{path}: until {ends:%Y-%m-%d}"


def look_at_socket(path: Path) -> str:
    """The place of a Unix socket.

    Raises:
        InputError: its name is too long for the kernel, or its directory cannot be written.
        DoubtError: its directory is not there.
    """
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise InputError(f"{path}: longer than the {_LONGEST_SOCKET} bytes of a socket's name")
    if not path.parent.is_dir():
        raise DoubtError(f"{path.parent}: not there yet")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path.parent}: cannot be written by this user")
    return str(path)


def look_at_pair(certificate: Path, private_key: Path) -> str:
    """A TLS certificate and its key belong together.

    Raises:
        InputError: they do not, or one of them cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, private_key)
    except (OSError, ssl.SSLError):
        raise InputError(f"{private_key}: is not the key of {certificate}") from None
    return f"{private_key}: the key of {certificate.name}"


def look_at_server(address: str, context: ssl.SSLContext) -> str:
    """A server on the network: it answers, its certificate is believed, and its clock is ours.

    Args:
        address: `host:port`.
        context: whom to believe, and what to show.

    Raises:
        UnreachableError: nobody answers, or not as a server does.
        InputError: the certificate is not believed, or the clocks are apart.
    """
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPSConnection(
        host.strip("[]"), int(port), context=context, timeout=_CONNECT_SECONDS
    )
    try:
        connection.request("GET", "/livez")
        date = connection.getresponse().headers["Date"]
    except ssl.SSLCertVerificationError as error:
        raise InputError(f"{address}: not believed: {error.verify_message}") from None
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{address}: {_words(error)}") from None
    finally:
        connection.close()
    if date is None:
        return f"{address} answers"
    skew = (parsedate_to_datetime(date) - dt.datetime.now(dt.UTC)).total_seconds()
    if abs(skew) > LARGEST_SKEW_SECONDS:
        raise InputError(f"{address}: its clock is {skew:+.0f} s from this host's")
    return f"{address} answers; the clocks agree"


def look_at_port(address: str) -> str:
    """An address to listen at is free.

    Raises:
        InputError: it is taken, or not this host's.
    """
    host, _, port = address.rpartition(":")
    try:
        family = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), int(port)))
    except OSError as error:
        raise InputError(f"{address}: {_words(error)}") from None
    return f"{address} is free"


def readiness_at(address: str) -> tuple[Check, ...] | None:
    """What a daemon says of itself at its metrics address; None if none answers there."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_CONNECT_SECONDS)
    try:
        connection.request("GET", "/readyz")
        body: object = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return read_checks(body["checks"]) if isinstance(body, dict) and "checks" in body else ()


def diagnose_readiness(checks: tuple[Check, ...], *, fix: str) -> list[Diagnosis]:
    """A running daemon's own checks, as diagnoses."""
    return [
        Diagnosis(f"ready: {each.name}", "ok", each.detail)
        if each.is_ok
        else Diagnosis(f"ready: {each.name}", "problem", each.detail, fix)
        for each in checks
    ]


def _words(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
