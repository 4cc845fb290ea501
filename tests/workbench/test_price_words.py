import pytest
from small_job import TEXT, of_entities, read_file

from sordino.price_words import attack_in_words, price_facts, price_rows
from sordino_protocols.pricing import resolve

QUOTE: dict[str, object] = {
    "refusal": None,
    "needs_approval": False,
    "rule": "policy.toml:2 datasets.heart",
    "epsilon_pld": 2.0,
    "epsilon_rdp": 2.2,
    "budget_left": 8.0,
    "rounds_that_fit": 30,
    "noise_that_fits": 5.0,
}
EXHAUSTED = QUOTE | {"refusal": "budget_exhausted", "rounds_that_fit": 7, "noise_that_fits": 0.0}


def test_a_job_is_priced_by_every_accountant() -> None:
    sampled = TEXT.replace("sampling_rate = 1\n", "sampling_rate = 0.5\n")
    facts = price_facts(resolve(read_file(sampled)), second_opinions=True)
    tight, loose = facts["epsilon_pld"], facts["epsilon_rdp"]
    assert isinstance(tight, float)
    assert 3.996 <= tight <= 4.0
    assert facts["epsilon_opacus_prv"] == pytest.approx(tight, rel=5e-3)
    assert facts["epsilon_opacus_rdp"] == pytest.approx(loose, rel=1e-6)
    assert facts["steps"] == 60
    assert "epsilon_opacus_prv" not in price_facts(resolve(read_file()))


def test_a_price_is_said_as_what_it_leaves_to_an_attacker() -> None:
    facts = price_facts(resolve(read_file(of_entities(TEXT))))
    bound = facts["true_positive_bound"]
    assert isinstance(bound, float)
    # Far more than guessing, and far less than (4, 1e-5)-DP alone would allow: 54 %.
    assert 0.05 < bound < 0.3
    assert f"at most {100 * bound:.1f} %" in str(facts["in_words"])
    assert "entities" in str(facts["in_words"])
    assert attack_in_words(0.123, unit="record") == (
        "an attack that takes 1 % of the records that were not there for members"
        " recognises at most 12.3 % of those that were"
    )


def test_what_fits_is_shown_where_a_budget_does_not_suffice() -> None:
    answer = {"quotes": {"va": EXHAUSTED, "basel": QUOTE}, "refused": {}, "silent": {}}
    rows = price_rows(answer)
    assert [row["site"] for row in rows] == ["basel", "va"]
    assert [row["rounds_that_fit"] for row in rows] == [30, 7]
    assert [row["noise_that_fits"] for row in rows] == [5.0, None]


def test_what_fits_is_not_shown_where_all_does() -> None:
    (row,) = price_rows({"quotes": {"basel": QUOTE}, "refused": {}, "silent": {}})
    assert {"site": "basel", **QUOTE} | row == {"site": "basel", **QUOTE}
    assert not {"rounds_that_fit", "noise_that_fits"} & set(row)


def test_sites_without_a_quote_have_a_row_with_the_same_keys() -> None:
    answer = {"quotes": {"va": EXHAUSTED}, "refused": {"x": "no_policy"}, "silent": {"y": "late"}}
    rows = price_rows(answer)
    assert [row["refusal"] for row in rows] == ["budget_exhausted", "no_policy", "late"]
    assert len({tuple(row) for row in rows}) == 1
    assert rows[1]["budget_left"] is None
    alone = price_rows({"quotes": {}, "refused": {"x": "no_policy"}, "silent": {}})
    assert alone == [{"site": "x", "refusal": "no_policy"}]
