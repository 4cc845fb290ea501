"""What the admin may change while the vault runs: policy, submitters, approvers, the log's level.

Read again on SIGHUP, all of them or none: a file that is broken changes nothing, and neither does
one whose change cannot be put on record; the log and the status say so until it is mended. Data
sets, keys and sockets are read once, at the start.
"""

import threading

import structlog

from sordino_client.config import SiteConfig, load_config
from sordino_client.judging import Rules
from sordino_client.policy import load_policy
from sordino_client.refusals import of_the_disk
from sordino_client.site import Site
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.errors import SordinoError
from sordino_protocols.logs import configure_logging
from sordino_protocols.signing import TrustStore, load_trust


def read_rules(config: SiteConfig) -> Rules:
    """Policy and keys as they are on disk now.

    Raises:
        InputError: a file breaks its format; names file, key and expectation.
        NotFoundError: a directory that `site.toml` names is not there.
    """
    has_approvers = config.site.approvers is not None or config.approvers.is_dir()
    return Rules(
        policy=load_policy(config.site.policy),
        submitters=load_trust(config.site.submitters),
        approvers=load_trust(config.approvers) if has_approvers else TrustStore({}),
    )


class Reloader:
    """Reads the rules of a running site again."""

    def __init__(self, config: SiteConfig, site: Site, audit_log: AuditLog) -> None:
        self._config = config
        self._site = site
        self._audit_log = audit_log
        self._lock = threading.Lock()
        self._problem: str | None = None
        self._log = structlog.get_logger(component="vault", site=config.site.name)

    @property
    def problem(self) -> str | None:
        """Why the last reading changed nothing; None if it did what it should."""
        return self._problem

    def reload(self) -> None:
        """Take what the files say from the next request on; what is broken is said, not raised."""
        with self._lock:
            try:
                rules = read_rules(self._config)
                level = load_config(self._config.path).log.level
                policy_sha256 = None if rules.policy is None else rules.policy.sha256
                self._record(policy_sha256)
            except SordinoError as error:
                self._keep(str(error))
                return
            except OSError as error:
                self._keep(of_the_disk(error))
                return
            configure_logging(level=level, has_records=True)
            self._site.change_rules(rules)
            self._problem = None
            self._log.info("rules_reloaded", policy_sha256=policy_sha256)

    def _keep(self, problem: str) -> None:
        self._problem = problem
        self._log.error("kept_the_old_rules", reason=problem)

    def _record(self, policy_sha256: str | None) -> None:
        self._audit_log.record(
            actor="admin",
            action="policy_reloaded",
            object=self._config.site.policy.name,
            decision="",
            reason="told to read policy, submitters and approvers again",
            policy_sha256=policy_sha256,
        )
