"""`rlhf eval --harness`: lm-eval's own figures, for the policy and for its reference."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from rlhf_cli.runs.binding import write_config
from rlhf_cli.runs.resume import read_config
from tests.support import QUICK, Outcome, lines

Rlhf = Callable[..., Outcome]

TASK: Final = """\
task: letters
dataset_path: json
dataset_kwargs: {data_files: letters.jsonl}
test_split: train
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc}]
"""


def write_task(folder: Path, name: str = "letters.yaml", text: str = TASK) -> None:
    """A task that asks for letters, which the tiny policy learns to write."""
    rows = [{"question": f"Say {n}:", "choices": ["ab cd"[n % 3 :], f"{n}{n} !"], "answer": 0} for n in range(12)]
    (folder / "letters.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / name).write_text(text)


@pytest.mark.slow
def test_policy_and_reference_are_asked(forked: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    write_task(tmp_path)
    longer = ("steps=40", "samples_per_prompt=8", "max_new_tokens=12", "evaluate.every=0", "checkpoint.every=40")
    assert forked("train", *QUICK, *longer, "run_dir=out").code == 0
    outcome = forked("eval", "out", "--harness", "letters.yaml", "--json")
    assert outcome.code == 0, outcome.err
    table = json.loads(outcome.out)
    (score,) = table["scores"]
    assert (score["task"], score["metric"], score["documents"], score["shots"]) == ("letters", "acc", 12, 0)
    assert score["policy"]["value"] > score["reference"]["value"]
    gap = score["policy"]["value"] - score["reference"]["value"]
    assert score["difference"]["value"] == pytest.approx(gap)
    assert score["difference"]["stderr"] > 0
    assert lines(tmp_path / "out" / "harness.jsonl") == [table]
    assert outcome.err.splitlines() == ["loading the model, with out/adapter ..."]

    merged = forked("merge", "out", "merged")
    assert merged.code == 0, merged.err
    assert own_figures(tmp_path / "merged", tmp_path / "letters.yaml", monkeypatch)["acc,none"] == pytest.approx(
        score["policy"]["value"]
    )

    again = forked("eval", "out", "--harness", "letters.yaml", "--limit", "5")
    assert again.code == 0, again.err
    assert "│ letters │    5 │ acc ↑  │" in again.out
    assert again.out.endswith("Added to out/harness.jsonl\n")
    assert [row["limit"] for row in lines(tmp_path / "out" / "harness.jsonl")] == [None, 5]

    for name, text, said in (
        ("none.yaml", None, "error: no such task file (none.yaml); fix: name a YAML file, or a task of lm-eval\n"),
        ("no.yaml", "a: 1\n", "error: the task cannot be read: "),
        ("far.yaml", TASK.replace("letters.jsonl", "gone.jsonl"), "error: the task cannot be read: Unable to find "),
        (
            "odd.yaml",
            TASK.replace("choices", "x"),
            "error: the task cannot be read: 'x' is undefined (odd.yaml); fix: ",
        ),
    ):
        if text is not None:
            write_task(tmp_path, name, text)
        wrong = forked("eval", "out", "--harness", name)
        assert wrong.code == 3, wrong.err
        assert wrong.err.removeprefix("loading the model, with out/adapter ...\n").startswith(said), wrong.err
        assert wrong.err.endswith("\n")


def own_figures(folder: Path, task: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What lm-eval itself says of a folder."""
    import warnings

    from lm_eval import simple_evaluate

    monkeypatch.chdir(task.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = simple_evaluate("hf", {"pretrained": str(folder), "device": "cpu"}, tasks=[str(task)])
    results: dict[str, Any] = found["results"]["letters"]
    return results


def test_without_lm_eval_the_way_to_it_is_said(
    finished: Path, rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    for name in {"lm_eval", *(name for name in sys.modules if name.startswith("lm_eval."))}:
        monkeypatch.setitem(sys.modules, name, None)
    outcome = rlhf("eval", "out", "--harness", "letters.yaml")
    assert (outcome.code, outcome.err) == (
        2,
        "error: lm-eval is not installed (--harness); fix: pip install 'rlhf-cli[harness]'\n",
    )
    assert not (tmp_path / "out" / "harness.jsonl").exists()
    reference = {"kind": "model", "path": "another", "revision": None, "adapter": None}
    write_config(tmp_path / "out", json.dumps(read_config(tmp_path / "out") | {"reference": reference}))
    noted, _ = rlhf("eval", "out", "--harness", "letters.yaml").err.splitlines()
    assert noted == "note: the reference here is the policy before training, not the run's reference.path"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["out", "out/adapter", "--harness", "x"], "--harness takes one run"),
        (["out", "data=jsonl", "--harness", "x"], "data has no meaning for lm-eval (data=jsonl)"),
        (["out", "--harness", "x", "--temperature", "0"], "lm-eval's tasks choose the decoding"),
        (["out", "--harness", "x", "--page", "p.html"], "lm-eval's tasks choose the decoding"),
        (["out", "--harness", " , "], "no task is named"),
        (["out", "--limit", "3"], "--limit is for lm-eval"),
        (["out", "--chat-template"], "--chat-template is for lm-eval"),
    ],
)
def test_what_does_not_go_together_is_refused(
    argv: list[str], said: str, finished: Path, rlhf: Rlhf, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    outcome = rlhf("eval", *argv)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
    assert said in outcome.err


def test_a_line_is_added_after_one_that_was_cut_short(tmp_path: Path) -> None:
    from rlhf_cli.runs.json_files import append_json

    file = tmp_path / "harness.jsonl"
    append_json(file, {"a": float("nan")})
    file.write_text(file.read_text() + '{"half')
    append_json(file, {"b": 1})
    assert file.read_text() == '{"a": null}\n{"half\n{"b": 1}\n'
