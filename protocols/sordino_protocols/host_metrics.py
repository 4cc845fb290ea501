"""What every daemon with a network tells of itself: whether it is ready, how long it may go on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from prometheus_client.core import Metric

from sordino_protocols.certificates import not_after
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.health import Check
from sordino_protocols.metrics import ReadCollector, gauge_family


class ReadyCollector(ReadCollector):
    """`sordino_ready`, by check: what `/readyz` would say, found out at the scrape."""

    def __init__(self, evaluate: Callable[[], Sequence[Check]]) -> None:
        """Take what finds out, in bounded time: `Checks.evaluate`."""
        super().__init__(lambda: _ready(evaluate()))


class CertificateCollector(ReadCollector):
    """`sordino_cert_not_after_timestamp_seconds`, by role, as the files are at the scrape."""

    def __init__(self, certificates: Mapping[str, Path]) -> None:
        """Take the PEM files by role; one that cannot be read has no series, and is not ready."""
        super().__init__(lambda: _ends(certificates))


def _ready(checks: Sequence[Check]) -> Iterator[Metric]:
    family = gauge_family("sordino_ready")
    for each in checks:
        family.add_metric([each.name], float(each.is_ok))
    yield family


def _ends(certificates: Mapping[str, Path]) -> Iterator[Metric]:
    family = gauge_family("sordino_cert_not_after_timestamp_seconds")
    for role, path in certificates.items():
        try:
            family.add_metric([role], not_after(path).timestamp())
        except (InputError, NotFoundError):
            continue
    yield family
