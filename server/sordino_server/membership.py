"""Who belongs to the federation, while the server runs.

The operator's decisions are files: keys in directories, certificates, a revocation list. They are
looked at every few seconds, so that a decision counts without a restart and within a minute. What
must stay true: a change that is broken or half done changes nothing, is said, and counts once it is
whole; shutting somebody out never waits for letting somebody else in.
"""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sordino_protocols.errors import SordinoError
from sordino_protocols.file_changes import FileChanges
from sordino_server.config import ServerConfig
from sordino_server.registry import update
from sordino_server.superlink import SuperLink
from sordino_server.tls import TlsFiles
from sordino_server.trust import LOOK_SECONDS


class Membership:
    """Applies changes of keys and certificates to a running SuperLink, on a thread of its own."""

    def __init__(
        self,
        config: ServerConfig,
        superlink: SuperLink,
        *,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the files as they are now as applied.

        Args:
            config: of the server.
            superlink: which lets sites in, and shuts them out.
            on_change: called when the sites may have changed.
        """
        section = config.server
        tls = TlsFiles(section.certificate, section.private_key, section.client_ca)
        self._section = section
        self._superlink = superlink
        self._on_change = on_change
        self._keys = FileChanges(lambda: _keys(section.sites, section.nodes))
        self._certificates = FileChanges(tls.paths)
        self._problems: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="membership", daemon=True)
        self._log = structlog.get_logger(component="server")

    @property
    def problem(self) -> str | None:
        """Why a change does not count yet; None if all do."""
        return "; ".join(self._problems.values()) or None

    def start(self) -> None:
        """Look every few seconds from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def apply(self) -> None:
        """Take the files as they are, whether they seem to have changed or not."""
        with self._lock:
            self._apply_keys()
            self._apply_certificates()

    def _watch(self) -> None:
        steps = {self._keys: self._apply_keys, self._certificates: self._apply_certificates}
        due: set[FileChanges] = set()
        while not self._stop.wait(LOOK_SECONDS):
            due |= {changes for changes in steps if changes.settled()}
            for changes in tuple(due):
                try:
                    with self._lock:
                        steps[changes]()
                except (SQLAlchemyError, OSError) as error:
                    # A full disk or a busy database: a revocation must not get lost by it.
                    self._log.exception("membership_stumbled", error=type(error).__name__)
                else:
                    due.remove(changes)

    def _apply_keys(self) -> None:
        problems = update(self._superlink, self._section.sites, self._section.nodes)
        try:
            self._on_change()
        except SordinoError as error:
            problems.append(str(error))
        self._say("keys", "; ".join(problems) or None, "members_updated")

    def _apply_certificates(self) -> None:
        try:
            self._superlink.renew_tls()
        except SordinoError as error:
            self._say("certificates", str(error), "certificates_renewed")
        else:
            self._say("certificates", None, "certificates_renewed")

    def _say(self, what: str, problem: str | None, done: str) -> None:
        if problem is None:
            self._problems.pop(what, None)
            self._log.info(done)
        else:
            self._problems[what] = problem
            self._log.error("change_does_not_count", reason=problem)


def _keys(sites: Path, nodes: Path) -> Iterable[Path]:
    return (path for directory in (sites, nodes) for path in directory.glob("*.pub"))
