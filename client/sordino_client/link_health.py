"""Whether a site can take part: what the link sees itself, and what the vault says of itself."""

import datetime as dt
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from sordino_client.server_answers import ServerAnswers
from sordino_protocols.health import Check, Checks, Finding, read_checks
from sordino_protocols.host_checks import certificate_lasts


class LinkHealth:
    """The site's readiness, as far as the link may know it."""

    def __init__(
        self,
        *,
        is_joined: Callable[[], bool],
        vault_status: Callable[[], str | None],
        answers: ServerAnswers,
        certificates: Mapping[str, Path],
    ) -> None:
        """Ask nobody yet.

        Args:
            is_joined: whether this site's node is active at the server.
            vault_status: a JSON object; None while the vault is not there. In bounded time.
            answers: of the server.
            certificates: PEM files by role, each of which must hold for another day.
        """
        self._vault_status = vault_status
        self._own = Checks(
            {
                "server": lambda: _server(is_joined(), answers),
                "clock": answers.check_clock,
                **{f"certificate_{role}": _lasts(path) for role, path in certificates.items()},
            }
        )

    def evaluate(self) -> tuple[Check, ...]:
        """The link's checks, then the vault's."""
        return (*self._own.evaluate(), *self._of_vault())

    def _of_vault(self) -> tuple[Check, ...]:
        text = self._vault_status()
        if text is None:
            return (Check("vault", is_ok=False, detail="the vault does not answer"),)
        answers = Check("vault", is_ok=True, detail="the vault answers")
        return (answers, *read_checks(_checks_in(text)))


def _checks_in(text: str) -> object:
    try:
        status: object = json.loads(text)
    except ValueError:
        return None
    return status.get("checks") if isinstance(status, dict) else None


def _server(is_joined: bool, answers: ServerAnswers) -> Finding:  # noqa: FBT001
    if not is_joined:
        return Finding(is_ok=False, detail="this site's node is not active at the server")
    return answers.check_presence()


def _lasts(path: Path) -> Callable[[], Finding]:
    return lambda: certificate_lasts(path, now=dt.datetime.now(dt.UTC))
