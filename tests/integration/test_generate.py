"""`rlhf generate`: the second command anyone types."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.runs.binding import read_record, write_config, write_record
from tests.support import QUICK, Outcome, lines

Rlhf = Callable[..., Outcome]


def test_prompts_come_from_the_command_line_or_from_stdin(
    finished: Path, rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = rlhf("generate", str(finished), "Name a tool.", "What is snow?")
    assert given.code == 0, given.err
    for typed in ("Name a tool.\n\nWhat is snow?\n", "\ufeffName a tool.\r\n\r\nWhat is snow?\r\n"):  # of Windows
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode()), newline="\n"))
        piped = rlhf("generate", str(finished))
        assert piped.out == given.out
        assert piped.out


@pytest.mark.parametrize("order", [("Name a tool.", "--reference"), ("--reference", "Name a tool.")])
def test_the_reference_stands_beside_the_policy(order: tuple[str, str], finished: Path, rlhf: Rlhf) -> None:
    outcome = rlhf("generate", str(finished), *order)
    assert outcome.out.startswith("prompt     Name a tool.\nreference  ")
    assert "\npolicy     " in outcome.out


def test_samples_follow_their_seed(finished: Path, rlhf: Rlhf) -> None:
    sample = ("generate", str(finished), "Name a tool.", "--temperature", "1", "--samples", "3")
    assert rlhf(*sample).out == rlhf(*sample).out
    assert rlhf(*sample).out != rlhf(*sample, "--seed", "1").out


def test_beta_is_a_dial_from_the_reference_to_the_policy(finished: Path, rlhf: Rlhf) -> None:
    """The run was trained at beta 0.01: at that beta its policy answers, at a very large one its reference."""
    both = json.loads(rlhf("generate", str(finished), "Name a tool.", "--reference", "--json").out)
    own = rlhf("generate", str(finished), "Name a tool.", "--beta", "0.01", "--json")
    assert json.loads(own.out)["policy"] == both["policy"] != both["reference"]
    assert "trained at beta 0.01: the weight of the policy is 1, token by token" in own.err
    far = rlhf("generate", str(finished), "Name a tool.", "--beta", "1e9", "--json")
    assert json.loads(far.out)["policy"] == both["reference"]
    beyond = rlhf("generate", str(finished), "Name a tool.", "--beta", "0.005", "--json")
    assert "the weight of the policy is 2, token by token; beyond the policy" in beyond.err


def test_a_beta_without_a_dial_is_refused_before_the_model_is_loaded(finished: Path, rlhf: Rlhf) -> None:
    outcome = rlhf("generate", str(finished), "Name a tool.", "--beta", "0")
    assert outcome.code == 2
    assert outcome.err.startswith("error: there is no dial between beta 0.01 and 0")


def test_a_checkpoint_answers_for_itself(finished: Path, rlhf: Rlhf) -> None:
    final = rlhf("generate", str(finished), "Name a tool.").out
    assert rlhf("generate", str(finished / "checkpoints" / "step-00000006"), "Name a tool.").out == final
    assert rlhf("generate", str(finished / "checkpoints" / "step-00000000"), "Name a tool.").out != final


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["nowhere", "x"], 5, "no such folder"),
        ([".", "x"], 5, "no run here"),
        (["out", "\udcff"], 2, "a prompt is not UTF-8 text"),
        (["out", "x", "--temperature", "-1"], 2, "must be 0 or more"),
        (["out", "x", "--beta", "1e-300"], 2, "fix: both above 0, and the second at least 1e-08"),
        ([__file__, "x"], 5, "a file, and no run's folder"),
        (["out", "x", "--samples", "0"], 2, "must be at least 1"),
        (["out", "x", "--samples", "two"], 2, "must be at least 1"),
        (["out", "x", "--samples", "2"], 2, "greedy answers are all the same"),
        (["out", "x", "--colour"], 2, "unrecognized arguments: --colour"),
        (["out", "x", "--max-new-tokens", "9999"], 2, "do not fit into the model's 256"),
    ],
)
def test_mistakes_are_one_line(argv: list[str], code: int, said: str, finished: Path, rlhf: Rlhf) -> None:
    outcome = rlhf("generate", *(str(finished) if word == "out" else word for word in argv))
    assert outcome.code == code
    assert said in outcome.err


def test_a_run_that_went_on_answers_with_its_newest_weights(finished: Path, rlhf: Rlhf, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "out")
    assert "with out/adapter" in rlhf("generate", "out", "Name a tool.").err
    assert rlhf("train", "resume=out", "steps=8").code == 0
    result = run / "result.json"
    result.write_text(result.read_text().replace('"step": 8', '"step": 6'))
    assert "with out/checkpoints/step-00000008" in rlhf("generate", "out", "Name a tool.").err


def test_another_model_than_the_runs_is_said(finished: Path, rlhf: Rlhf, tmp_path: Path) -> None:
    """By every verb that puts the run's adapter on it."""
    run = shutil.copytree(finished, tmp_path / "out")
    record = read_record(run)
    write_record(run, record | {"model": record["model"] | {"sha256_sampled": "0", "sha256_text": "1"}})
    for verb in (("generate", "out", "Name a tool."), ("merge", "out", "merged"), ("eval", "out")):
        outcome = rlhf(*verb)
        assert outcome.code == 0
        assert "note: the weights of " in outcome.err
        assert " changed since out began: its adapter was trained on others\n" in outcome.err
        assert "note: the tokenizer, chat template or end tokens of " in outcome.err
    assert "note: " not in rlhf("generate", str(finished), "Name a tool.").err


def test_the_prompt_is_that_of_training(finished: Path, rlhf: Rlhf, tmp_path: Path) -> None:
    """A template is only noted: it may need other columns."""
    run = shutil.copytree(finished, tmp_path / "out")
    config = json.loads((run / "config.json").read_text())
    config["data"] |= {"template": "Q: {prompt}"}
    write_config(run, json.dumps(config))
    err = rlhf("generate", "out", "Name a tool.").err
    assert "note: the prompts in training are written by 'Q: {prompt}'; yours are taken as they are\n" in err
    config["data"] |= {"template": None, "system": "Be brief."}
    write_config(run, json.dumps(config))
    outcome = rlhf("generate", "out", "Name a tool.")
    assert "note: the system prompt is 'Be brief.', as in training\n" in outcome.err
    assert "chat messages, but the prompts are raw text for this model" in outcome.err  # it has no template


def test_the_dial_of_a_controlled_beta_begins_where_the_run_ended(rlhf: Rlhf, tmp_path: Path) -> None:
    """Without an evaluation, metrics.jsonl has it; the first beta is what the controller began with."""
    assert rlhf("train", *QUICK, "beta=adaptive", "evaluate.every=0", "run_dir=out").code == 0
    own = lines(tmp_path / "out" / "metrics.jsonl")[-1]["beta"]
    assert own < 0.05
    assert f"trained at beta {own:g}: " in rlhf("generate", "out", "Name a tool.", "--beta", "0.1").err
