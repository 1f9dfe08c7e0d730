"""`rlhf merge`: a run leaves this tool."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.support import Outcome

Rlhf = Callable[..., Outcome]


def test_the_merged_model_answers_as_the_run_does(finished: Path, rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf("merge", str(finished), str(tmp_path / "out"))
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("written to ")
    model, tokenizer = (kind.from_pretrained(tmp_path / "out") for kind in (AutoModelForCausalLM, AutoTokenizer))
    inputs = tokenizer("Name a tool.", return_tensors="pt")
    greedy = model.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=0)[0, inputs.input_ids.shape[1] :]
    expected = rlhf("generate", str(finished), "Name a tool.", "--max-new-tokens", "8").out
    assert tokenizer.decode(greedy, skip_special_tokens=True) == expected.removesuffix("\n")

    card = (tmp_path / "out" / "README.md").read_text()
    front = dict(line.split(": ", 1) for line in card.split("---")[1].strip().splitlines())
    assert json.loads(front["library_name"]) == "transformers"
    assert "    rlhf train config=tiny" in card
    assert "| reward | " in card
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("RUN", "RUN"), 2, "there is something already"),
        (("RUN", "missing/out"), 6, "no such folder"),
        (
            ("RUN", "/proc/out"),
            6,
            "the disk refuses: No such file or directory (/proc/out); fix: give, or go to, a folder that exists",
        ),
        (("missing", "out"), 5, "no such folder"),
        (("RUN", "out", "--dtype", "int8"), 2, "invalid choice: 'int8'"),
    ],
)
def test_mistakes_are_one_line(argv: tuple[str, ...], code: int, said: str, finished: Path, rlhf: Rlhf) -> None:
    outcome = rlhf("merge", *(word.replace("RUN", str(finished)) for word in argv))
    assert outcome.code == code
    assert said in outcome.err
    assert outcome.err.removeprefix(f"loading the model, with {finished}/adapter ...\n").count("\n") == 1
