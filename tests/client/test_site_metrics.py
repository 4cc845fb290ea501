import math
import sqlite3
from typing import get_args

import pytest
from metric_families import families, families_of
from one_site import DATASET, JOB, NAME, OneSite, evaluate, make_job, refusal, round_plan, settle
from prometheus_client import REGISTRY

from sordino_client.metrics import (
    ALL_CLASSES,
    NO_DATASET,
    OUTSIDE_CLASSES,
    SiteMetrics,
)
from sordino_client.watching import LedgerWatch
from sordino_protocols.messages import Refusal
from sordino_protocols.metrics import Place, ReleaseClass
from sordino_protocols.privacy import Gaussian, Mechanism


def names(metrics: SiteMetrics, *classes: ReleaseClass) -> set[str]:
    return families(metrics.text(classes))


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
    assert len(made) == 7
    assert {id(each) for each in made} <= registered
    assert not [each for each in REGISTRY._names_to_collectors if each.startswith("sordino")]


def test_what_depends_on_records_is_shown_to_nobody_outside(site: OneSite) -> None:
    site.ask(site.admit())
    site.ask(round_plan())
    local = names(site.metrics, ReleaseClass.LOCAL)
    assert local == families_of(Place.VAULT, classes=(ReleaseClass.LOCAL,))
    outside = site.metrics.text(OUTSIDE_CLASSES)
    assert not [each for each in local if each in outside]


def test_what_may_be_seen_outside_is_this(site: OneSite) -> None:
    # The process that serves a vault adds what it knows of itself.
    of_the_process = {"sordino_self_test_success", "sordino_trainer_restarts"}
    assert names(site.metrics, *OUTSIDE_CLASSES) == (
        families_of(Place.VAULT, classes=OUTSIDE_CLASSES) - of_the_process
    )


def local(site: OneSite, sample: str, run_id: str = "run-1") -> float | None:
    registry = site.metrics.registries[ReleaseClass.LOCAL]
    return registry.get_sample_value(sample, {"run_id": run_id})


def test_people_at_the_site_see_what_training_looks_like(site: OneSite) -> None:
    job = make_job()
    site.ask(site.admit())
    assert local(site, "sordino_train_step_seconds_count") is None
    site.ask(round_plan())
    assert local(site, "sordino_train_step_seconds_count") == 1
    training = site.datasets[DATASET].training
    batch = local(site, "sordino_train_batch_records")
    assert batch is not None
    assert 0 < batch <= len(training.labels)
    clipped = local(site, "sordino_train_clip_fraction_ratio")
    assert clipped is not None
    assert 0 <= clipped <= 1
    # A logistic model with weights of zero: every record's loss is log 2.
    assert job.file.require_model().kind == "logistic"
    assert local(site, "sordino_train_loss") == pytest.approx(math.log(2))
    site.ask(settle())
    # Series by run end with the run.
    assert "run-1" not in site.metrics.text(ALL_CLASSES)


def test_a_repeated_round_is_not_trained_twice(site: OneSite) -> None:
    site.ask(site.admit())
    for _ in range(2):
        site.ask(round_plan())
    assert local(site, "sordino_train_step_seconds_count") == 1


def test_running_jobs_show_what_they_cost(site: OneSite) -> None:
    def cost(kind: str) -> float | None:
        name = f"sordino_run_epsilon_{kind}"
        return value(site.metrics, name, run_id="run-1", site=NAME)

    assert cost("planned") is None
    site.ask(site.admit())
    assert cost("spent") == 0
    planned = cost("planned")
    site.ask(round_plan())
    spent = cost("spent")
    assert spent is not None
    assert planned is not None
    assert 0 < spent < planned == cost("planned")
    assert planned == pytest.approx(site.spent + site.held)
    site.ask(settle())
    assert cost("spent") is None


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
    assert value(site.metrics, "sordino_ledger_entries_total") == site.ledger.length


def test_charges_and_refusals_are_counted(site: OneSite) -> None:
    def charges(mechanism: str, result: str) -> float | None:
        return value(
            site.metrics,
            "sordino_privacy_charges_total",
            dataset=DATASET,
            mechanism=mechanism,
            result=result,
        )

    def refusals(refusal: Refusal, dataset: str = DATASET) -> float | None:
        name = "sordino_privacy_refusals_total"
        return value(site.metrics, name, dataset=dataset, rule=refusal.value)

    assert {refusals(each) for each in Refusal} == {0.0}
    assert {charges(each, "charged") for each in get_args(Mechanism)} == {0.0}
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
    assert refusals(Refusal.NOT_ADMITTED, NO_DATASET) == 1.0
    assert refusals(Refusal.OUT_OF_ORDER) == 1.0


def test_a_charge_that_fails_is_not_counted_as_one() -> None:
    metrics = SiteMetrics()
    with pytest.raises(OSError, match="full"), metrics.charging(DATASET, Gaussian(1.0)):
        raise OSError("disk full")
    counted = {"dataset": DATASET, "mechanism": "gaussian"}
    assert value(metrics, "sordino_privacy_charges_total", **counted, result="failed") == 1.0
    assert value(metrics, "sordino_privacy_charges_total", **counted, result="charged") is None


def test_only_the_sites_own_data_sets_become_labels(site: OneSite) -> None:
    job = make_job(JOB.replace(f'dataset = "{DATASET}"', 'dataset = "made-up-by-a-stranger"'))
    answer = site.ask(site.admit(job=job))
    assert refusal(answer) is Refusal.UNKNOWN_DATASET
    text = site.metrics.text(OUTSIDE_CLASSES)
    assert "made-up-by-a-stranger" not in text
    counted = {"dataset": NO_DATASET, "rule": "unknown_dataset"}
    assert value(site.metrics, "sordino_privacy_refusals_total", **counted) == 1


def test_a_ledger_that_was_changed_under_the_vault_is_noticed(site: OneSite) -> None:
    site.ask(site.admit())
    site.watch.read()
    assert value(site.metrics, "sordino_ledger_verify_success") == 1
    with sqlite3.connect(site.config.ledger_path) as tampered:
        tampered.execute("DELETE FROM entries")
    site.watch.read()
    assert value(site.metrics, "sordino_ledger_verify_success") == 0


def test_the_chain_is_read_again_when_it_is_due_and_no_sooner(site: OneSite) -> None:
    time = 0.0
    watch = LedgerWatch(site.ledger, seconds=60.0, clock=lambda: time)
    site.ask(site.admit())
    with sqlite3.connect(site.config.ledger_path) as tampered:
        tampered.execute("DELETE FROM entries")
    time = 59.0
    assert watch.is_whole()
    assert watch.reading is None
    time = 60.0
    watch.is_whole()
    assert watch.reading is not None
    watch.reading.join()
    assert not watch.is_whole()


def test_two_vaults_in_one_process_do_not_share_counters() -> None:
    first, second = SiteMetrics(), SiteMetrics()
    first.refused(Refusal.INTERNAL)
    assert (
        value(second, "sordino_privacy_refusals_total", dataset=NO_DATASET, rule="internal") == 0.0
    )
