"""What SIGHUP means to a running server: look at the files again, and put that on record."""

from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sordino_protocols.errors import SordinoError
from sordino_protocols.logs import configure_logging
from sordino_server.config import ServerConfig, load_config
from sordino_server.decisions import Decisions


class Reloader:
    """Reads again what may change while the server runs: keys, certificates, how much is logged.

    Addresses and directories are read once, at the start.
    """

    def __init__(
        self, config: ServerConfig, decisions: Decisions, apply: Callable[[], None]
    ) -> None:
        """Read nothing yet.

        Args:
            config: as it was at the start.
            decisions: told of every reload.
            apply: takes keys and certificates as they are on disk.
        """
        self._config = config
        self._decisions = decisions
        self._apply = apply
        self._log = structlog.get_logger(component="server")

    def reload(self) -> None:
        """Look now; what is broken is said, not raised, and changes nothing."""
        try:
            configure_logging(level=load_config(self._config.path).log.level)
        except (SordinoError, OSError):
            self._log.exception("kept_the_old_configuration")
        try:
            self._apply()
        except (SordinoError, SQLAlchemyError, OSError):
            # A full disk or a busy database is no reason to end.
            self._log.exception("reload_stumbled")
        try:
            self._decisions.reloaded("keys, certificates, logging")
        except (SordinoError, OSError):
            self._log.exception("reload_not_recorded")
        self._log.info("reloaded")
