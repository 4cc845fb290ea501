"""The server's metrics, read off its state when somebody scrapes.

The server never sees a record, so nothing here can depend on one but through a paid release: the
noisy evaluation is the one metric of class `dp`, and all others are `public`.
"""

import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import product

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from sordino_protocols.metrics import ReadCollector, gauge_family, make_gauge
from sordino_server.audit_metrics import AuditCollector
from sordino_server.auth_failures import AuthFailures
from sordino_server.contradictions import Contradictions
from sordino_server.page_facts import Record
from sordino_server.run_metrics import RunReader, progress_families, run_families
from sordino_server.runs import Runs
from sordino_server.superlink import RegisteredNode, SuperLink


def server_registry(
    superlink: SuperLink,
    runs: Runs,
    *,
    contradictions: Contradictions,
    auth_failures: AuthFailures | None = None,
) -> CollectorRegistry:
    """A registry that reads the server's state at every scrape.

    Args:
        superlink: knows the sites.
        runs: all of them.
        contradictions: what sites showed that contradicts what they showed before.
        auth_failures: what gateway and listeners count; None where nobody does.
    """
    registry = CollectorRegistry()
    build = make_gauge("sordino_build_info", registry)
    packages = [version(name) for name in ("torch", "opacus", "flwr")]
    build.labels(version("sordino"), platform.python_version(), *packages).set(1)
    failures = auth_failures or AuthFailures()
    reader = RunReader(runs)

    def read() -> Iterator[Metric]:
        nodes = superlink.nodes()
        readings = reader.read()
        yield from _site_families(nodes)
        yield _contradiction_family([node.name for node in nodes], contradictions)
        yield failures.family()
        yield from run_families(readings, [node.name for node in nodes])
        connected = {node.name for node in nodes if node.is_online}
        yield from progress_families(readings, connected)

    registry.register(ReadCollector(read))
    registry.register(AuditCollector(runs))
    return registry


def _site_families(nodes: list[RegisteredNode]) -> Iterator[Metric]:
    connected = gauge_family("sordino_site_connected")
    seen = gauge_family("sordino_site_last_seen_timestamp_seconds")
    for node in nodes:
        connected.add_metric([node.name], float(node.is_online))
        if node.last_seen is not None:
            seen.add_metric([node.name], node.last_seen.timestamp())
    yield from (connected, seen)


def _contradiction_family(sites: Sequence[str], contradictions: Contradictions) -> Metric:
    found = {(each.site, each.record) for each in contradictions(sites)}
    family = gauge_family("sordino_site_contradicts")
    for site, record in product(sites, Record):
        family.add_metric([site, record.name.lower()], float((site, record) in found))
    return family
