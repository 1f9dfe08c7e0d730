"""Types of a command's options."""

import argparse

import pytest

from rlhf_cli.commands.parts.parser import Parser, at_least, temperature
from rlhf_cli.errors import UserError


@pytest.mark.parametrize("text", ["0", "0.001", "1", "2.5"])
def test_a_temperature_is_zero_or_one_that_logits_can_be_divided_by(text: str) -> None:
    assert temperature(text) == float(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.0009", "must be 0, for greedy decoding, or 0.001 or more (got 0.0009)"),
        ("1e-300", "must be 0, for greedy decoding, or 0.001 or more (got 1e-300)"),
        ("-1", "must be 0 or more (got -1)"),
        ("warm", "must be 0 or more (got warm)"),
    ],
)
def test_another_temperature_is_refused(text: str, said: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        temperature(text)
    assert str(caught.value) == said


def test_a_whole_number_of_thousands_of_digits_is_refused_in_a_short_line() -> None:
    """Python reads no more than 4300 digits, and argparse would name our function and repeat them all."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"^must be at least 1 \(got 5,000 characters\)$"):
        at_least(1)("9" * 5000)
    assert at_least(1)("9" * 18) == 10**18 - 1


@pytest.mark.parametrize(
    ("argv", "name"), [([""], "RUN"), (["a", "b", ""], "RUN"), (["a", "--output", ""], "--output")]
)  # fmt: skip
def test_an_empty_path_is_refused_by_name(argv: list[str], name: str) -> None:
    """It would mean the working directory: `rlhf merge "$RUN" OUT` of a variable that is not set."""
    parser = Parser(prog="rlhf report")
    parser.add_argument("runs", metavar="RUN", nargs="+")
    parser.add_argument("--output", metavar="FILE")
    parser.add_argument("--system", type=str, default="")
    parser.add_argument("--json", action="store_true")
    with pytest.raises(UserError) as caught:
        parser.parse_args(argv)
    assert caught.value.line() == f"argument {name}: must not be empty (rlhf report); fix: rlhf report --help"
    assert parser.parse_args(["a", "--system", ""]).system == ""
