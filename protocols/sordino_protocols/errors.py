"""Errors that say whose fault they are.

What *we* built wrong is a bug and raises an ordinary exception. What a *person* wrote wrong is an
`InputError` that names the place, what was expected and the fix. What a *peer* sent wrong is a
`PeerError`: refused, logged, survived. Across a trust boundary travels a `Refusal` (an enum in
`messages`), never the text of an exception: Flower sends `str(exception)` of a site to the server,
and a parser's message there holds a person's data.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the `sordino` command: stable, documented, one meaning each."""

    OK = 0
    ERROR = 1
    USAGE = 2
    REFUSED = 3
    BUDGET_EXHAUSTED = 4
    NOT_FOUND = 5
    AUTHENTICATION = 6
    UNREACHABLE = 7
    INTEGRITY = 8
    AUDIT_VIOLATION = 9
    AUDIT_SUSPECT = 10
    AUDIT_INCONCLUSIVE = 11
    INTERRUPTED = 130


class SordinoError(Exception):
    """Root of every error that we raise on purpose.

    Attributes:
        exit_code: what the `sordino` command ends with when nothing else handled the error.
    """

    exit_code = ExitCode.ERROR

    @property
    def reference(self) -> str:
        """What a person can look up: E, the exit code, and which of its errors: `E0200`."""
        return f"E{self.exit_code:02d}00"


class InputError(SordinoError):
    """A person's input is wrong. The text names the place, the expectation and the fix."""

    exit_code = ExitCode.USAGE


class NotFoundError(SordinoError):
    """A named thing (run, data set, file) does not exist."""

    exit_code = ExitCode.NOT_FOUND


class UnreachableError(SordinoError):
    """A peer or a local daemon did not answer in time."""

    exit_code = ExitCode.UNREACHABLE


class AuthenticationError(SordinoError):
    """Somebody is not who the file of trusted keys says."""

    exit_code = ExitCode.AUTHENTICATION


class IntegrityError(SordinoError):
    """A ledger, an outbox or a signature does not hold together. Work stops until a person acts."""

    exit_code = ExitCode.INTEGRITY


class ViolationError(SordinoError):
    """An audit found that a promise was broken. What it found it in is not used."""

    exit_code = ExitCode.AUDIT_VIOLATION


class PeerError(SordinoError):
    """A peer sent bytes that break the protocol. Never carries the bytes themselves."""
