import pytest

from virt_preflight.treaty.turnstile import TooManyError, Turnstile


def test_no_more_than_so_many_are_let_in() -> None:
    turnstile = Turnstile(in_all=2, per_caller=2)
    with (
        turnstile.entered("a"),
        turnstile.entered("b"),
        pytest.raises(TooManyError, match="2 requests are under way already"),
        turnstile.entered("c"),
    ):
        pass
    with turnstile.entered("c"), turnstile.entered("c"):
        pass


def test_nobody_takes_the_place_of_all_others() -> None:
    turnstile = Turnstile(in_all=9, per_caller=1)
    with (
        turnstile.entered("a"),
        turnstile.entered("b"),
        pytest.raises(TooManyError, match="1 requests of a are under way already"),
        turnstile.entered("a"),
    ):
        pass


def test_whoever_leaves_in_trouble_has_left() -> None:
    turnstile = Turnstile(in_all=1, per_caller=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="boom"), turnstile.entered("a"):
            raise ValueError("boom")
