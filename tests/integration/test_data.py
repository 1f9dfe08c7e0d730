"""`rlhf data show`, and runs on data of several kinds, from the command line and from a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.models import tiny
from tests.support import Outcome, lines

Rlhf = Callable[..., Outcome]
FEW = ("steps=3", "prompts_per_step=4", "evaluate.every=0", "log_samples=99", "display=quiet", "run_dir=out")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Nine questions as csv, twelve prompts as jsonl, and a file that mixes them."""
    table = "".join(f'{n},"What is {n}, doubled?",{2 * n}\n' for n in range(9))
    (tmp_path / "q.csv").write_text(f"level,question,answer\n{table}")
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": f"Say {n}."}) + "\n" for n in range(12)))
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "run.yaml").write_text(
        "defaults: [tiny]\n"
        "data:\n"
        "  kind: mixture\n"
        "  weights: {asked: 1, said: 3}\n"
        "  parts:\n"
        '    asked: {kind: csv, path: ../q.csv, template: "Q: {question}", where: {level: [1, 2, 3, 4]}}\n'
        "    said: {kind: jsonl, path: ../p.jsonl}\n"
    )
    return tmp_path


def shown(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.err
    look: dict[str, Any] = json.loads(outcome.out)
    return look


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making the model is a bug (exit 1)."""

    def build(settings: object) -> None:
        raise AssertionError("a model was made")

    monkeypatch.setattr(tiny, "build_tiny", build)


@pytest.mark.usefixtures("sources", "no_weights")
def test_show_prints_prompts_as_the_policy_reads_them(rlhf: Rlhf) -> None:
    outcome = rlhf(
        "data", "show", "config=tiny", "data=csv", "data.path=q.csv", "data.template=Q: {question}",
        "data.where.level=[1,2,3,4,5]", "data.max_prompt_tokens=21", "data.too_long=drop",
        "evaluate.prompts=2", "--rows", "1",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    # rows 1 to 5 less two held-out ones are shown and counted; "Q: What is 1, doubled?" has 22 bytes
    first, text, empty, *figures = outcome.out.splitlines()
    assert first.startswith("q.csv:")
    assert first.endswith("  22 tokens")
    assert text.startswith("Q: What is ")
    assert empty == ""
    assert figures == [
        "prompts    3 to train on, 2 held out",
        "           5 longer than 21 tokens: left out (data.too_long=drop)",
        "left out   4 by data.where",
        "columns    answer, level, question",
        "tokens     22 least, 22 median, 22 at 90 %, 22 most",
        f"        22      5 {'█' * 40}",
    ]
    assert "\x1b" not in outcome.out


@pytest.mark.usefixtures("sources", "no_weights")
def test_show_counts_and_measures(rlhf: Rlhf) -> None:
    ask = ("data", "show", "config=tiny", "data=csv", "data.path=q.csv", "data.prompt=question", "--json")
    look = shown(rlhf(*ask, "data.where.level=[1,2,3,4,5]", "data.max_prompt_tokens=18", "evaluate.prompts=2"))
    assert look["left_out"] == {"by data.where": 4}
    (part,) = look["parts"]
    assert (part["train"], part["held_out"], part["limit"], part["longer"]) == (3, 2, 18, 5)
    assert look["columns"] == ["answer", "level", "question"]
    # "What is 1, doubled?" has 19 bytes, which are the tokens of the tiny model
    assert [look["lengths"][name] for name in ("least", "median", "p90", "most")] == [19] * 4
    assert look["lengths"]["histogram"] == [{"first": 19, "last": 19, "prompts": 5}]
    assert len(look["shown"]) == 3
    assert look["shown"][0]["tokens"] == 19


@pytest.mark.usefixtures("sources")
def test_special_tokens_are_coloured_where_there_are_colours(rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path("p.jsonl")).write_text(json.dumps({"prompt": f"A{tiny.END}B\x1b[2J"}) + "\n")
    ask = ("data", "show", "config=tiny", "data=jsonl", "data.path=p.jsonl", "evaluate.every=0")
    assert f"A{tiny.END}B·[2J" in rlhf(*ask).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert f"A\x1b[1;36m{tiny.END}\x1b[0mB·[2J" in rlhf(*ask).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;36m" not in rlhf(*ask).out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["data", "shw"], "invalid choice: 'shw'"),
        (["data", "show", "--rows", "x"], "must be 0 or more (got x)"),
        (["data", "show", "data=cvs"], "data=cvs: no such option"),
    ],
)
def test_mistakes(argv: list[str], said: str, rlhf: Rlhf) -> None:
    outcome = rlhf(*argv)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_mixture_from_a_file(sources: Path, rlhf: Rlhf) -> None:
    outcome = rlhf("train", "config=mixed/run.yaml", *FEW)
    assert outcome.code == 0, outcome.err
    assert "note: data: 21 rows; 5 by data.where left out; 16 to train on, 0 held out" in outcome.err
    told = [row["prompt"][:3] for row in lines(sources / "out" / "samples.jsonl")][::8]
    # three steps of four prompts, a quarter of them questions; eight completions of each
    assert (told.count("Q: "), told.count("Say")) == (3, 9)
    look = shown(rlhf("data", "show", "config=mixed/run.yaml", "--json", "evaluate.prompts=4"))
    assert [(part["name"], part["share"], part["held_out"]) for part in look["parts"]] == [
        ("asked", 0.25, 1),
        ("said", 0.75, 3),
    ]


def test_a_mixture_from_the_command_line_and_its_resume(sources: Path, rlhf: Rlhf) -> None:
    mixed = [
        "data=mixture", "+data@data.parts.asked=csv", "data.parts.asked.path=q.csv", "data.parts.asked.prompt=question",
        "+data@data.parts.said=text", "data.parts.said.path=p.jsonl", "data.weights.asked=1", "data.weights.said=1",
    ]  # fmt: skip
    assert rlhf("train", "config=tiny", *mixed, *FEW).code == 0
    assert rlhf("train", "resume=out", "steps=4").code == 0
    assert rlhf("train", "config=tiny", *mixed, *FEW[:-1], "steps=4", "run_dir=whole").code == 0
    resumed, whole = ((sources / run / "samples.jsonl").read_bytes() for run in ("out", "whole"))
    assert resumed == whole


@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.parts.asked.path=none.csv", "no such prompt file ("),
        ("data.weights.more=1", "data: more has no part: parts and weights have the same names"),
        ("data.parts.asked.kind=sql", "data.parts.asked: has no kind sql; have jsonl, csv, parquet, text"),
        ("data.parts.asked.kind=jsn", "hub, labelled; did you mean jsonl?\n"),
        ("data.parts.asked.pth=x", "unknown setting 'data.parts.asked.pth'"),
    ],
)
def test_mistakes_in_a_mixture(change: str, said: str, rlhf: Rlhf) -> None:
    outcome = rlhf("train", "config=mixed/run.yaml", *FEW, change)
    assert outcome.code in (2, 3)
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
