"""The metrics that a process should serve, by the table; and those that a scraped text has."""

from prometheus_client.parser import text_string_to_metric_families

from sordino_protocols.metrics import METRICS, Place, ReleaseClass


def families_of(
    *places: Place, classes: tuple[ReleaseClass, ...] = tuple(ReleaseClass)
) -> set[str]:
    """Names of families, as a parser tells them: a counter's without its `_total`."""
    return {
        facts.name.removesuffix("_total")
        for facts in METRICS.values()
        if facts.places & set(places) and facts.release in classes
    }


def families(text: str) -> set[str]:
    """Names of the families in a text, each described once; without the times of making."""
    described = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    # Prometheus refuses a text in which a metric is described twice; the parser here does not.
    assert len(described) == len(set(described))
    found = {family.name for family in text_string_to_metric_families(text)}
    return {name for name in found if not name.endswith("_created")}
