"""Mechanisms in words: one line a release, however many tables it is made of."""

from sordino.release_words import release_in_words
from sordino_protocols.privacy import (
    Composed,
    DiscreteGaussian,
    Event,
    Exponential,
    Gaussian,
    SelfComposed,
    event_to_json,
)


def words(event: Event) -> str:
    return release_in_words(event_to_json(event))  # type: ignore[arg-type]  # JSON all the same


def test_one_mechanism_is_told_with_its_settings() -> None:
    assert words(Gaussian(2.5)) == "Gaussian noise: noise multiplier 2.5"
    assert words(DiscreteGaussian(3.0)) == (
        "discrete Gaussian noise on counts: noise std 3, sensitivity 1"
    )


def test_many_tables_are_one_line_with_the_range_of_their_noise() -> None:
    parts = [SelfComposed(DiscreteGaussian(std), count) for std, count in ((4.5, 3), (20.0, 2))]
    assert words(SelfComposed(Composed(tuple(parts)), 2)) == (
        "discrete Gaussian noise on counts, 10 times: noise std 4.5 to 20, sensitivity 1"
    )


def test_different_mechanisms_are_told_apart() -> None:
    both = Composed((SelfComposed(Exponential(0.1), 13), DiscreteGaussian(4.5)))
    assert words(both) == (
        "a noisy choice, 13 times: epsilon 0.1;"
        " discrete Gaussian noise on counts: noise std 4.5, sensitivity 1"
    )


def test_what_is_not_known_is_named_and_nothing_more() -> None:
    assert release_in_words({"event": "dark_magic", "version": 2, "power": 9}) == "dark magic"
    assert release_in_words({}) == "?"
