"""The space of a search, in hydra's syntax of sweeps."""

from __future__ import annotations

import pytest

from rlhf_cli.config.arguments import parse_override
from rlhf_cli.config.search import corners, point, read_space
from rlhf_cli.errors import UserError
from rlhf_cli.sweep.search import Choice, Dimension, Interval, shorten


def space(*overrides: str) -> tuple[Dimension, ...]:
    return read_space([*map(parse_override, overrides)])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.lr=1e-3,1e-4", Choice("optimizer.lr", ("0.001", "0.0001"))),
        ("beta='0.1','0.2'", Choice("beta", ("'0.1'", "'0.2'"))),
        ("kl=choice(reward,exact)", Choice("kl", ("reward", "exact"))),
        ("steps=range(4,9)", Interval("steps", 4, 8, False, 1, False)),
        ("steps=range(4,9,2)", Interval("steps", 4, 8, False, 2, False)),
        ("steps=range(8,3,-2)", Interval("steps", 4, 8, False, 2, False)),
        ("top_p=range(0.5,1,0.25)", Choice("top_p", ("0.5", "0.75"))),
        ("optimizer.lr=interval(1e-5,1e-3)", Interval("optimizer.lr", 1e-5, 1e-3, False, None, False)),
        ("optimizer.lr=tag(log,interval(1e-5,1e-3))", Interval("optimizer.lr", 1e-5, 1e-3, True, None, False)),
        ("beta=interval(0,0.3)", Interval("beta", 0.0, 0.3, False, None, True)),
        ("steps=int(interval(2,9))", Interval("steps", 2, 9, False, 1, False)),
    ],
)
def test_each_kind_of_sweep(override: str, expected: Dimension) -> None:
    (found,) = space(override)
    assert found == expected
    assert repr(found) == repr(expected)  # 4 is not 4.0


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("steps=3",), "a search needs values to choose from"),
        (("seed=1,2",), "a search chooses no seed"),
        (("steps=interval(3,3)",), "the first end has to be below the second"),
        (("beta=tag(log,interval(0,1))",), "log needs numbers above 0"),
    ],
)
def test_what_is_no_space_is_refused(overrides: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        space(*overrides)


def test_points_keep_what_is_fixed_and_the_corners_show_every_value() -> None:
    overrides = [*map(parse_override, ("steps=3", "beta='0.1','0.2','0.5'", "optimizer.lr=interval(0.1,0.5)"))]
    assert [point(overrides, texts) for texts in corners(read_space(overrides))] == [
        ("steps=3", "beta='0.1'", "optimizer.lr=0.1"),
        ("steps=3", "beta='0.2'", "optimizer.lr=0.1"),
        ("steps=3", "beta='0.5'", "optimizer.lr=0.1"),
        ("steps=3", "beta='0.1'", "optimizer.lr=0.5"),
    ]


def test_numbers_are_short_but_never_outside() -> None:
    interval = Interval("x", 0.123456, 0.9, False, None, True)
    assert shorten(0.3333333, interval) == 0.3333
    assert shorten(0.1234561, Interval("x", 0.12346, 0.9, False, None, True)) == 0.1235
    assert shorten(0.8999999, Interval("x", 0.1, 0.89999995, False, None, True)) == 0.8999999
    assert interval.text(0.5) == "'0.5'"
