import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
from one_site import (
    CANARY_NUMBER,
    CANARY_WORD,
    DATASET,
    JOB,
    MOMENTS_JOB,
    QUANTILES_JOB,
    OneSite,
    evaluate,
    find_canary,
    garble,
    kinds,
    make_job,
    measure,
    refusal,
    round_plan,
    settle,
    sign,
    weights_for,
)
from structlog.testing import capture_logs

from sordino_client.data.table import Table
from sordino_protocols.messages import (
    Admission,
    Inquire,
    Message,
    Refusal,
    Refused,
    Settle,
    Update,
)
from sordino_protocols.metrics import ReleaseClass


def everything_that_is_asked(site: OneSite) -> list[Message]:
    """Requests that take every way through a site, right and wrong."""
    lung = make_job(JOB.replace('dataset = "heart"', 'dataset = "lung"'))
    dear = make_job().model_copy(update={"training_noise_multiplier": 0.5})
    wrong_shape = dataclasses.replace(round_plan(2), weights=np.zeros(3, dtype=np.float32))
    return [
        round_plan(),
        Inquire("price-1", site.admit().job),
        Inquire("price-2", sign(site, lung)),
        Inquire("price-3", sign(site, dear)),
        site.admit(),
        site.admit("run-2", lung),
        site.admit("run-3", dear),
        wrong_shape,
        round_plan(99),
        round_plan(2, value=float("nan")),
        round_plan(1),
        round_plan(1, value=1.0),
        round_plan(2, value=3.4e38),
        site.admit("run-4", make_job(MOMENTS_JOB)),
        measure(run_id="run-4"),
        site.admit("run-5", make_job(QUANTILES_JOB)),
        measure(run_id="run-5", job=make_job(QUANTILES_JOB)),
        evaluate(),
        evaluate(value=1.0),
        Settle("run-1", "another job"),
        settle(),
        round_plan(3),
    ]


def evidence(site: OneSite) -> tuple[bytes, list[Message]]:
    """All that anybody but the site's own admin could see after everything was asked."""
    with capture_logs() as logs:
        envelopes = [site.site.answer(site.seal(each)) for each in everything_that_is_asked(site)]
        envelopes += [site.site.answer(b"garbage"), site.site.answer(bytes(300))]
    answers = [site.read(each) for each in envelopes]
    shown = site.metrics.text((ReleaseClass.PUBLIC, ReleaseClass.DP))
    texts = [repr(logs), shown, json.dumps(site.site.status()), repr(answers), repr(site.datasets)]
    return b"\n".join([*envelopes, *(text.encode() for text in texts)]), answers


def test_no_value_of_a_record_is_in_anything_that_can_be_seen(site: OneSite) -> None:
    records = (site.directory / "datasets.d" / "records.csv").read_bytes()
    assert find_canary(records)
    seen, answers = evidence(site)
    assert not find_canary(seen)
    # Every way was taken: that is what the list of requests is for.
    assert {each.refusal for each in answers if isinstance(each, Refused)} >= {
        Refusal.MALFORMED,
        Refusal.NOT_ADMITTED,
        Refusal.UNKNOWN_DATASET,
        Refusal.UNPRICEABLE,
        Refusal.WRONG_SHAPE,
        Refusal.OUT_OF_ORDER,
        Refusal.NOT_FINITE,
        Refusal.CHANGED_REPLAY,
    }


def test_a_librarys_words_about_a_record_do_not_leave_a_failing_round(site: OneSite) -> None:
    whole = site.datasets[DATASET].training
    broken = garble(whole.features)
    with pytest.raises(ValueError, match=CANARY_WORD):
        broken[0]
    site.open(training=Table(broken, whole.labels))
    seen, answers = evidence(site)
    assert not find_canary(seen)
    failed = [each for each in answers if isinstance(each, Refused)]
    assert Refusal.INTERNAL in {each.refusal for each in failed}


@pytest.mark.parametrize(
    "tamper",
    [
        lambda t: Table(t.features[:, :2], t.labels),
        lambda t: Table(t.features, t.labels[:-1]),
        lambda t: Table(t.features.astype(np.object_), t.labels),
        lambda t: Table(t.features.astype("<U20"), t.labels),
        lambda t: Table(np.full_like(t.features, np.nan), t.labels),
        lambda t: Table(np.full_like(t.features, float(CANARY_NUMBER)), t.labels),
        lambda t: Table(t.features, np.full_like(t.labels, float(CANARY_NUMBER))),
    ],
)
def test_a_data_set_that_broke_in_memory_says_nothing(
    site: OneSite, tamper: Callable[[Table], Table]
) -> None:
    site.open(training=tamper(site.datasets[DATASET].training))
    seen, _ = evidence(site)
    assert not find_canary(seen)


def test_a_failed_round_stays_paid_and_can_be_made_later(site: OneSite) -> None:
    whole = site.datasets[DATASET].training
    site.open(training=Table(garble(whole.features), whole.labels))
    site.ask(site.admit())
    with capture_logs() as logs:
        assert refusal(site.ask(round_plan())) is Refusal.INTERNAL
    (line,) = [each for each in logs if each["event"] == "refused"]
    # Enough for a person to find the place, and no word of the library's.
    assert line["reason"].startswith("ValueError at one_site.py:")
    assert kinds(site) == ["hold", "reserve"]
    spent = site.spent
    site.open()
    assert isinstance(site.ask(round_plan()), Update)
    assert site.spent == spent


def test_the_search_for_the_canary_can_find_one() -> None:
    for planted in (CANARY_NUMBER.encode(), f"x{CANARY_WORD}y".encode()):
        assert find_canary(b"harmless " + planted)
    assert find_canary(np.array([float(CANARY_NUMBER)]).tobytes())
    assert not find_canary(b"harmless")
    # A boundary that sends the text of an exception would be caught.
    error = ValueError(f"could not convert {CANARY_NUMBER}")
    assert find_canary(repr(Refused(str(error), Refusal.INTERNAL)).encode())


def test_status_and_admission_say_public_facts_only(site: OneSite) -> None:
    admission = site.ask(site.admit())
    assert isinstance(admission, Admission)
    assert set(site.site.status()) == {
        "policy_sha256",
        "ledger_head",
        "ledger_entries",
        "audit_log_head",
        "audit_log_entries",
        "halted",
        "help",
        "budgets",
    }
    # Neither the number of records nor that of a class is anywhere in what is declared.
    rows = len(site.datasets[DATASET].training.labels)
    assert admission.order_of_magnitude == 100 != rows
    assert weights_for(make_job()).shape == (14,)
