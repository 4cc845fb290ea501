import pytest
from one_site import DATASET, OneSite, evaluate, round_plan, settle
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from sordino_client.metrics import ReleaseClass, SiteMetrics
from sordino_protocols.messages import Refusal
from sordino_protocols.privacy import Gaussian

OUTSIDE = (ReleaseClass.PUBLIC, ReleaseClass.DP)


def names(metrics: SiteMetrics, *classes: ReleaseClass) -> set[str]:
    families = text_string_to_metric_families(metrics.text(classes))
    # With a counter or a histogram comes the time when it was made.
    return {each.name for each in families if not each.name.endswith("_created")}


def value(metrics: SiteMetrics, sample: str, **labels: str) -> float | None:
    return metrics.registries[ReleaseClass.PUBLIC].get_sample_value(sample, labels)


def test_every_metric_has_exactly_one_class(site: OneSite) -> None:
    by_class = {each: names(site.metrics, each) for each in ReleaseClass}
    assert sum(map(len, by_class.values())) == len(set().union(*by_class.values()))
    # Every collector that exists is in one of the registries, none in the library's global one.
    registered = {
        id(collector)
        for registry in site.metrics.registries.values()
        for collector in registry._collector_to_names
    }
    made = [each for each in vars(site.metrics).values() if hasattr(each, "collect")]
    assert len(made) == 4
    assert {id(each) for each in made} <= registered
    assert not [each for each in REGISTRY._names_to_collectors if each.startswith("sordino")]


def test_what_depends_on_records_is_shown_to_nobody_outside(site: OneSite) -> None:
    site.ask(site.admit())
    site.ask(round_plan())
    assert names(site.metrics, ReleaseClass.LOCAL) == {"sordino_train_step_seconds"}
    outside = site.metrics.text(OUTSIDE)
    assert "sordino_train_step_seconds" not in outside
    # It did count: the text is not empty for want of something to tell.
    local = site.metrics.text((ReleaseClass.LOCAL,))
    assert "sordino_train_step_seconds_count 1.0" in local


def test_what_may_be_seen_outside_is_this(site: OneSite) -> None:
    # A new public metric is a decision: whoever makes one comes by here.
    assert names(site.metrics, *OUTSIDE) == {
        "sordino_approvals_waiting",
        "sordino_build_info",
        "sordino_ledger_entries",
        "sordino_ledger_fsync_seconds",
        "sordino_ledger_halted",
        "sordino_policy_info",
        "sordino_privacy_budget_epsilon",
        "sordino_privacy_charges",
        "sordino_privacy_refusals",
    }


def test_budgets_and_entries_are_read_when_somebody_looks(site: OneSite) -> None:
    def budget(kind: str) -> float | None:
        return value(site.metrics, "sordino_privacy_budget_epsilon", dataset=DATASET, kind=kind)

    assert (budget("limit"), budget("spent"), budget("reserved")) == (8.0, 0.0, 0.0)
    site.ask(site.admit())
    assert budget("reserved") == site.held > 0
    site.ask(round_plan())
    assert budget("spent") == site.spent > 0
    site.ask(settle())
    assert budget("reserved") == 0.0
    assert budget("remaining") == pytest.approx(8.0 - site.spent)
    assert value(site.metrics, "sordino_ledger_entries") == site.ledger.length


def test_charges_and_refusals_are_counted(site: OneSite) -> None:
    def charges(mechanism: str, result: str) -> float | None:
        return value(
            site.metrics,
            "sordino_privacy_charges_total",
            dataset=DATASET,
            mechanism=mechanism,
            result=result,
        )

    def refusals(refusal: Refusal) -> float | None:
        return value(site.metrics, "sordino_privacy_refusals_total", rule=refusal.value)

    assert {refusals(each) for each in Refusal} == {0.0}
    site.ask(round_plan())
    site.ask(site.admit())
    site.ask(round_plan())
    site.ask(evaluate())
    site.ask(settle())
    site.ask(site.admit("run-2"))
    site.ask(settle(run_id="run-2"))
    site.ask(round_plan(run_id="run-2"))
    assert charges("poisson_gaussian", "charged") == 1.0
    assert charges("discrete_gaussian", "charged") == 1.0
    assert charges("poisson_gaussian", "failed") == 1.0
    assert refusals(Refusal.NOT_ADMITTED) == 1.0
    assert refusals(Refusal.OUT_OF_ORDER) == 1.0


def test_a_charge_that_fails_is_not_counted_as_one() -> None:
    metrics = SiteMetrics()
    with pytest.raises(OSError, match="full"), metrics.charging(DATASET, Gaussian(1.0)):
        raise OSError("disk full")
    counted = {"dataset": DATASET, "mechanism": "gaussian"}
    assert value(metrics, "sordino_privacy_charges_total", **counted, result="failed") == 1.0
    assert value(metrics, "sordino_privacy_charges_total", **counted, result="charged") is None


def test_two_vaults_in_one_process_do_not_share_counters() -> None:
    first, second = SiteMetrics(), SiteMetrics()
    first.refused(Refusal.INTERNAL)
    assert value(second, "sordino_privacy_refusals_total", rule="internal") == 0.0
