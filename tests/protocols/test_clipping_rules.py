"""The rules as data. That a site's gradients obey them is tested with the engine."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sordino_protocols.clipping import (
    LARGEST_ADAPTATION,
    AdaptiveClipping,
    ClippingRule,
    FlatClipping,
)
from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT, parse_toml

adaptive = st.builds(
    AdaptiveClipping,
    kind=st.just("adaptive"),
    quantile=st.floats(0.01, 0.99),
    share=st.floats(0.01, 0.99),
)


class Holder(BaseModel):
    model_config = STRICT

    clipping: ClippingRule = FlatClipping()


@given(adaptive, st.booleans())
def test_gradient_and_bit_together_are_never_longer_than_the_norm(
    rule: AdaptiveClipping,
    is_below: bool,  # noqa: FBT001
) -> None:
    whole = math.hypot(rule.gradient_share, rule.share * rule.bit(is_below=is_below))
    assert whole <= 1 + 1e-12


@given(adaptive)
def test_the_longer_bit_uses_all_of_the_share(rule: AdaptiveClipping) -> None:
    assert max(abs(rule.bit(is_below=True)), abs(rule.bit(is_below=False))) == 1.0


@given(adaptive)
def test_the_bits_balance_where_the_quantile_is_reached(rule: AdaptiveClipping) -> None:
    mean = rule.quantile * rule.bit(is_below=True) + (1 - rule.quantile) * rule.bit(is_below=False)
    assert abs(mean) < 1e-12
    assert rule.bit(is_below=True) > 0 > rule.bit(is_below=False)


@given(st.floats() | st.sampled_from([math.nan, math.inf, -math.inf]), st.floats(1e-3, 1e3))
def test_the_norm_is_positive_and_in_bounds_whatever_a_server_sends(
    weight: float, clipping_norm: float
) -> None:
    norm = AdaptiveClipping(kind="adaptive").norm(clipping_norm, weight)
    assert clipping_norm / LARGEST_ADAPTATION * (1 - 1e-9) <= norm
    assert norm <= clipping_norm * LARGEST_ADAPTATION * (1 + 1e-9)


def test_the_norm_is_the_plans_at_weight_zero_and_rises_with_it() -> None:
    rule = AdaptiveClipping(kind="adaptive")
    assert rule.norm(0.7, 0.0) == 0.7
    norms = [rule.norm(0.7, weight) for weight in np.linspace(-9, 9, 50)]
    assert norms == sorted(set(norms))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('kind = "ghost"', "clipping.kind: must be one of 'flat', 'per_layer', 'normalized', 'ad"),
        ('kind = "normalized"\nstability = 0', "clipping.stability: should be greater than 0"),
        ('kind = "adaptive"\nquantile = 1.0', "clipping.quantile: should be less than 1"),
        ('kind = "adaptive"\nshare = 0.0', "clipping.share: should be greater than 0"),
        ('kind = "adaptive"\nquantil = 0.5', "clipping.quantil: unknown key; did you mean 'quan"),
        ('kind = "flat"\nshare = 0.1', "clipping.share: unknown key"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_toml(f"[clipping]\n{text}", Holder, source="job.toml")
    assert expected in str(caught.value)
