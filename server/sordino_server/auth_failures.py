"""How often somebody was not let in, by what was wrong: never who, and never what they sent.

Counted in memory: a server that starts again starts from 0, which Prometheus knows how to read.
"""

from collections import Counter
from enum import StrEnum
from threading import Lock

from prometheus_client.core import Metric

from sordino_protocols.metrics import counter_family


class AuthFailure(StrEnum):
    """What was wrong with a caller: the label of `sordino_auth_failures_total`."""

    NODE_KEY = "node_key"
    """A link whose key is not that of a site that is let in."""
    JOB_SIGNATURE = "job_signature"
    """A job that no submitter of ours signed, or another than the one who sends it."""
    SITE_CERTIFICATE = "site_certificate"
    """A site without a TLS client certificate that counts."""
    REVOKED = "revoked"
    """Somebody who was let in once, and is not any more."""


class AuthFailures:
    """Counts; from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[AuthFailure] = Counter()
        self._lock = Lock()

    def count(self, kind: AuthFailure) -> None:
        """Somebody was not let in."""
        with self._lock:
            self._counts[kind] += 1

    def family(self) -> Metric:
        """All kinds, those that never happened too."""
        with self._lock:
            counts = self._counts.copy()
        family = counter_family("sordino_auth_failures_total")
        for kind in AuthFailure:
            family.add_metric([kind.value], counts[kind])
        return family
