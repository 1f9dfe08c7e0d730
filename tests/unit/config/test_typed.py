"""Nothing that is typed is read as something else in silence: not in a file (YAML 1.1), not in an override (hydra)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.config.arguments import parse_override, rewrite
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.config.yaml_text import parse_yaml
from rlhf_cli.errors import UserError

from .conftest import write

TINY = "model: tiny\nreward: characters\ndata: {kind: jsonl, path: p.jsonl, "
HERE = Path("/")


def read(yaml: str) -> Any:
    """The value that a plain scalar of a file has, for a setting that nothing is known of."""
    return parse_yaml(write(Path("r.yaml"), f"unknown: {yaml}\n"))[0]["unknown"]


def value(override: str) -> Any:
    """The value that hydra reads from an override once it is rewritten, and rewritten again by a trial of a sweep."""
    once = rewrite(override, HERE)
    assert parse_override(rewrite(once, HERE)).value() == parse_override(once).value()
    return parse_override(once).value()


@pytest.mark.case(64)
@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "Yes", "NO", "y", "010", "-007", "0x10", "0o7", "0b1",
                                  "12:30", "1:30:00", "190:20:30.15", "2026-11-28", "1.2.3", "nan", "inf", "1__0",
                                  "=", "a: b".replace(": ", ":")])  # fmt: skip
def test_a_file_reads_as_text_what_only_yaml_1_1_reads_otherwise(text: str) -> None:
    assert read(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("0", 0), ("-12", -12), ("1_000", 1000),
     ("1e-5", 1e-5), ("1.50", 1.5), (".5", 0.5), ("5.", 5.0), ("2E+3", 2000.0), ("'yes'", "yes"), ('"5"', "5")],
)  # fmt: skip
def test_a_file_reads_the_rest_as_ever(text: str, expected: Any) -> None:
    found = read(text)
    assert (found, type(found)) == (expected, type(expected))


def test_keys_are_read_as_text_too() -> None:
    body, lines = parse_yaml(write(Path("r.yaml"), "where:\n  on: 1\n  010: 2\n"))
    assert body == {"where": {"on": 1, "010": 2}}
    assert lines["where.010"] == 3
    with pytest.raises(UserError, match=r"^r.yaml:2: not valid YAML: found duplicate key yes; fix: leave one of them$"):
        parse_yaml(write(Path("r.yaml"), "yes: 1\nyes: 2\n"))


def test_what_a_mapping_takes_from_another_stays() -> None:
    write(Path("r.yaml"), "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert parse_yaml(Path("r.yaml"))[0]["b"] == {"x": 1, "y": 3}


def test_a_filter_means_the_text_that_was_typed() -> None:
    texts = ["yes", "no", "010", "12:30", "2026-11-28", "0x10"]
    each = ", ".join(f"a{number}: {typed}, s{number}: [{typed}, 5]" for number, typed in enumerate(texts))
    write(Path("r.yaml"), f"{TINY}where: {{{each}}}}}")
    expected = {f"a{number}": typed for number, typed in enumerate(texts)}
    expected |= {f"s{number}": (typed, 5) for number, typed in enumerate(texts)}
    assert compose_config(["config=r.yaml"]).data.where == expected
    assert [value(f"+data.where.answer={typed}") for typed in texts] == texts


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("1.10", "1.10 may be the text '1.10' or the number 1.1; fix: write '1.10' in quotes, or 1.1"),
        ("1e-5", "1e-5 may be the text '1e-5' or the number 1e-05; fix: write '1e-5' in quotes, or 1e-05"),
        ("1_000", "1_000 may be the text '1_000' or the number 1000; fix: write '1_000' in quotes, or 1000"),
        ("+5", "+5 may be the text '+5' or the number 5; fix: write '+5' in quotes, or 5"),
        ("~", "~ may be the text '~' or the value null; fix: write '~' in quotes, or null"),
        ("", "no value may be nothing, or null; fix: write '' in quotes, or null"),
    ],
)
def test_a_filter_that_may_mean_two_things_is_refused(typed: str, line: str) -> None:
    for where in (f"answer: {typed}", f"answer: [a, {typed}]") if typed else (f"answer: {typed}",):
        write(Path("r.yaml"), f"{TINY}\n  where: {{{where}}}}}")
        with pytest.raises(UserError) as caught:
            compose_config(["config=r.yaml"])
        assert caught.value.line() == f"r.yaml:4: data.where.answer: {line}"
    if typed not in ("~", ""):  # to hydra these are texts
        for override in (
            f"+data.where.answer={typed}",
            f"data.where={{answer: {typed}}}",
            f"data={{where: {{a: [{typed}]}}}}",
        ):
            with pytest.raises(UserError, match="may be a text or the number"):
                value(override)


def test_a_filter_that_means_one_thing_is_kept() -> None:
    every = {"5": 5, "1.5": 1.5, "true": True, "True": True, "FALSE": False, "null": None, "'1.10'": "1.10", "'~'": "~",
             "''": ""}  # fmt: skip
    write(Path("r.yaml"), f"{TINY}where: {{{', '.join(f'a{n}: {typed}' for n, typed in enumerate(every))}}}}}")
    found = compose_config(["config=r.yaml"]).data.where
    assert json.dumps(found) == json.dumps({f"a{number}": expected for number, expected in enumerate(every.values())})
    for typed, expected in every.items():
        assert json.dumps(value(f"+data.where.answer={typed}")) == json.dumps(expected)


@pytest.mark.parametrize("key", ["data.template", "data.system", "data.parts.web.system", "reward.rubric"])
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_line_break_may_be_typed_in_an_override(key: str, quote: str) -> None:
    assert value(rf"{key}={quote}Q: {{prompt}}\nA:\t{quote}") == "Q: {prompt}\nA:\t"


@pytest.mark.parametrize("quote", ["'", '"'])
def test_and_in_a_list_of_texts(quote: str) -> None:
    assert value(rf"model.stop=[{quote}\n\n{quote},{quote}Q:{quote},7]") == ["\n\n", "Q:", 7]


def test_a_word_of_tex_is_no_line_break() -> None:
    for word in (r"\nabla", r"\times"):
        with pytest.raises(UserError, match=r"data.template: \\\w+ may be (a line break and abla|a tab and imes), or"):
            value(rf"data.template='{word} {{prompt}}'")
    assert value(r"data.template='\\n {prompt}'") == r"\\n {prompt}"


@pytest.mark.parametrize("text", [r"'Q: {prompt}\nA:'", r"Q {prompt}\n"])
def test_two_characters_in_a_file_are_no_line_break(text: str) -> None:
    choices = "model: tiny\nreward: characters\n"
    write(Path("r.yaml"), f"{choices}data:\n  kind: jsonl\n  path: p.jsonl\n  template: {text}\n")
    with pytest.raises(UserError) as caught:
        compose_config(["config=r.yaml"])
    fix = 'put the text in double quotes: "...\\n..."'
    assert caught.value.line() == f"r.yaml:6: data.template: \\n stays two characters here; fix: {fix}"


def test_nor_in_a_list() -> None:
    write(Path("r.yaml"), r"model: {kind: tiny, stop: ['\n']}")
    with pytest.raises(UserError, match=r"^r.yaml:1: model.stop: \\n stays two characters here; fix: put the text in"):
        compose_config(["config=r.yaml"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'"{prompt}\nA"', "{prompt}\nA"),
        (r'"{prompt}\\nA"', r"{prompt}\nA"),
        (r"'\nu {prompt}'", r"\nu {prompt}"),
    ],
)
def test_double_quotes_in_a_file_say_which(text: str, expected: str) -> None:
    write(Path("r.yaml"), f"{TINY}template: {text}}}")
    assert compose_config(["config=r.yaml"]).data.template == expected


@pytest.mark.parametrize(
    "typed",
    [r"\(\d+\)", r"\[a\]", r"a\\b", r"\{2\}", r"a\=b", r"\w+ ", " x", r"\d{3}", "it's", r"a\,b", r"\$\d", "(a|b)"],
)
def test_a_pattern_is_what_was_typed(typed: str) -> None:
    """Hydra's grammar takes a backslash from some characters, and spaces from both ends."""
    assert value(f"reward.pattern={typed}") == typed


@pytest.mark.case(64)
@given(st.text(st.sampled_from(r"ab \()[]{}:=.$1-\"'"), min_size=1, max_size=8))
def test_a_text_is_what_was_typed_or_is_refused(typed: str) -> None:
    """Whole in quotes it is the text within; `$` with a brace begins an interpolation; a number is refused later."""
    if typed[0] in "'\"" or "${" in typed or typed.strip()[:1] in "[{'\"":
        return
    found = value(f"reward.pattern={typed}")
    assert found == typed or not isinstance(found, str)


def test_an_escape_in_a_list_and_quotes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"^reward.words: \\\( would lose its backslash; fix: put each text in quotes$"):
        value(r"reward.words=[a\(b,c]")
    with pytest.raises(UserError, match=r"^data.system: the quotes do not fit together; fix: "):
        value("data.system='it's'")
    assert value(r"reward.words=['a\(b',c]") == [r"a\(b", "c"]
