"""`rlhf export`: a run as a GGUF file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from rlhf_cli.models.tiny import byte_tokenizer
from tests.support import Outcome

Rlhf = Callable[..., Outcome]


def test_the_file_answers_as_the_run_does(finished: Path, rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf("export", str(finished), "m.gguf", "--type", "f32")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("written to m.gguf (f32); before rounding, its logits are those with the adapter")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf")
    tokenizer = byte_tokenizer()  # transformers reads no tokenizer without merges
    inputs = tokenizer("Name a tool.", return_tensors="pt")
    greedy = model.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=0)[0, inputs.input_ids.shape[1] :]
    expected = rlhf("generate", str(finished), "Name a tool.", "--max-new-tokens", "8").out
    assert tokenizer.decode(greedy, skip_special_tokens=True) == expected.removesuffix("\n")
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("RUN", "model"), 2, "only GGUF files are written (model); fix: model.gguf, or rlhf merge"),
        (("RUN", "RUN"), 2, "there is something already"),
        (("missing", "m.gguf"), 5, "no such folder"),
        (("RUN", "m.gguf", "--type", "q4"), 2, "invalid choice: 'q4'"),
    ],
)
def test_mistakes_are_one_line(argv: tuple[str, ...], code: int, said: str, finished: Path, rlhf: Rlhf) -> None:
    outcome = rlhf("export", *(word.replace("RUN", str(finished)) for word in argv))
    assert outcome.code == code
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
