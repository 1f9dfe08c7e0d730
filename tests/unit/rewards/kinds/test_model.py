"""Reward models: random small ones, saved to a folder and scored as a reward."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)
from transformers.utils import logging

from rlhf_cli.errors import UserError
from rlhf_cli.models.tiny import byte_tokenizer
from rlhf_cli.rewards.kinds.model import Model
from rlhf_cli.runs.binding import write_record
from rlhf_cli.runs.folder import CONFIG
from tests.support import Outcome
from tests.unit.rewards.support import made, score_function

Rlhf = Callable[..., Outcome]
CHAT = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}"
PROMPTS = ["Say it.", "What?", "Say it.", "A longer prompt than those.", "?"]
TEXTS = ["Yes.", "No, never.", "Yes!", "", "Perhaps tomorrow, if the weather holds."]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`saved(architecture, labels, template)`: the folder of such a model; each is made once."""
    made_ones: dict[Any, Path] = {}

    def save(architecture: str = "llama", labels: tuple[str, ...] = ("score",), template: str = "") -> Path:
        key = architecture, labels, template
        if key not in made_ones:
            made_ones[key] = folder = tmp_path_factory.mktemp("model")
            tokenizer = byte_tokenizer()
            tokenizer.chat_template = template or None
            names: dict[str, Any] = {
                "id2label": dict(enumerate(labels)),
                "label2id": {n: i for i, n in enumerate(labels)},
            }
            shape: dict[str, Any] = {
                "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                "num_attention_heads": 2, "max_position_embeddings": 128,
            }  # fmt: skip
            torch.manual_seed(3)
            if architecture == "roberta":
                model: Any = RobertaForSequenceClassification(RobertaConfig(**shape, **names, pad_token_id=1))
            elif architecture == "bert":
                model = BertForSequenceClassification(BertConfig(**shape, **names))
            elif architecture == "causal":
                model = LlamaForCausalLM(LlamaConfig(**shape))
            else:
                model = LlamaForSequenceClassification(LlamaConfig(**shape, **names, pad_token_id=None))
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return made_ones[key]

    return save


def scores(folder: Path, prompts: list[Any] = PROMPTS, texts: list[Any] = TEXTS, **changes: Any) -> list[float]:
    found: Any = score_function(made("model", path=str(folder), device="cpu", **changes))(
        prompts=prompts, completions=texts
    )
    return list(found)


def test_loading_draws_no_bar(saved: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> None:
    folder = saved("llama")
    logging.enable_progress_bar()
    capfd.readouterr()
    scores(folder)
    assert capfd.readouterr() == ("", "")


def test_a_text_beyond_the_models_positions_loses_its_beginning(saved: Callable[..., Path]) -> None:
    folder = saved("roberta")  # 128 positions, of which the first two belong to the padding
    assert scores(folder, ["q" * 500], ["Yes."]) == pytest.approx(scores(folder, ["q" * 122], ["Yes."]), abs=1e-6)


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_a_score_is_that_of_the_completion_alone(saved: Callable[..., Path], architecture: str) -> None:
    folder = saved(architecture)
    together = scores(folder)
    assert len({round(score, 4) for score in together}) == 5
    alone = [scores(folder, [prompt], [text])[0] for prompt, text in zip(PROMPTS, TEXTS, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    for size in (1, 2):
        assert scores(folder, batch_size=size) == pytest.approx(alone, abs=1e-5)
    for order in list(permutations(range(5)))[::40]:
        shuffled = scores(folder, [PROMPTS[i] for i in order], [TEXTS[i] for i in order])
        assert shuffled == pytest.approx([alone[i] for i in order], abs=1e-5)


def test_it_is_the_models_own_score(saved: Callable[..., Path]) -> None:
    folder = saved()
    model = LlamaForSequenceClassification.from_pretrained(folder)
    model.config.pad_token_id = 0
    tokens = torch.tensor([byte_tokenizer()("Say it.Yes.")["input_ids"]])
    assert not (tokens == 0).any()
    with torch.no_grad():
        expected = float(model(tokens).logits)
    assert scores(folder, ["Say it."], ["Yes."]) == [pytest.approx(expected, abs=1e-6)]


def test_a_conversation_goes_through_the_models_own_template(saved: Callable[..., Path]) -> None:
    chat, plain = saved(template=CHAT), saved()
    expected = scores(plain, ["<user>Hi<assistant>"], ["Yes."])
    assert scores(chat, ["Hi"], ["Yes."]) == pytest.approx(expected, abs=1e-6)
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]
    answer = [{"role": "assistant", "content": "Yes."}]
    expected = scores(plain, ["<system>S<user>Hi<assistant>"], ["Yes."])
    assert scores(chat, [turns], [answer]) == pytest.approx(expected, abs=1e-6)
    assert scores(chat, ["Hi"], ["Yes."], reads="text") != pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="the model has no chat template"):
        scores(plain, reads="chat")


def test_it_may_read_the_completion_alone(saved: Callable[..., Path]) -> None:
    first, second = scores(saved(), ["a", "bb"], ["Yes.", "Yes."], reads="completion")
    assert first == second


def test_what_is_too_long_loses_its_beginning(saved: Callable[..., Path]) -> None:
    folder = saved()
    short = scores(folder, ["p" * 4], ["Yes."], max_tokens=8)
    assert scores(folder, ["q" * 500 + "p" * 4], ["Yes."], max_tokens=8) == pytest.approx(short, abs=1e-6)
    assert scores(folder, ["q" * 500], ["Yes."])  # no more than the model can read


NO_SYSTEM = CHAT.replace("turn in messages", "turn in messages if turn.role != 'system'")
SAYS = "of the reward model: the model's chat template leaves out the system's message"


@pytest.mark.parametrize(
    ("template", "settings", "notes"),
    [
        (CHAT, {}, []),
        ("", {"max_tokens": 8}, ["the reward model reads 8 tokens, and longer texts lose their beginning"]),
        (
            CHAT.replace("turn in messages", "turn in messages if turn.role != 'system'"),
            {},
            [SAYS],
        ),
        (
            CHAT.replace("turn.content", "turn.content.split('.')[0]"),
            {},
            ["the reward model's chat template shows it only a part of some completions"],
        ),
    ],
    ids=["all of it", "a limit", "no system prompt", "a part"],
)
def test_what_it_does_not_read_is_said_once(
    template: str, settings: dict[str, Any], notes: list[str], saved: Callable[..., Path]
) -> None:
    source = made("model", path=str(saved(template=template)), device="cpu", **settings)
    score: Any = score_function(source)
    prompts = [[{"role": "system", "content": "Be a poet"}, {"role": "user", "content": "Hi"}]] * 2
    for _ in range(2):
        score(prompts=prompts, completions=["Yes", "No. Never"])
        assert score.notes() == notes


def test_a_prompt_that_is_rendered_already_is_said_to_be_rendered_again(saved: Callable[..., Path]) -> None:
    score: Any = score_function(made("model", path=str(saved(template=CHAT)), device="cpu"))
    score(prompts=["Hi <user>", [{"role": "user", "content": "<user>Hi"}]], completions=["Yes", "No"])
    assert score.notes() == []
    score(prompts=["<user>Hi", " <user>Ho"], completions=["Yes", "No"])
    assert score.notes() == ["the reward model reads prompts that are rendered already as the user's text"]
    score = score_function(made("model", path=str(saved(template=CHAT)), device="cpu", reads="text"))
    score(prompts=["<user>Hi"], completions=["Yes"])
    assert score.notes() == []


def test_the_template_gets_the_tools_of_the_row(saved: Callable[..., Path]) -> None:
    """As the policy's template does; one that leaves them out is named."""
    tools = [{"type": "function", "function": {"name": "add"}}]
    writes = "{% for tool in tools or [] %}[{{ tool.function.name }}]{% endfor %}" + CHAT
    expected = scores(saved(), ["[add]<user>Hi<assistant>", "<user>Hi<assistant>"], ["Yes", "Yes"])
    for template, notes in [(writes, []), (CHAT, [SAYS.replace("the system's message", "the row's tools")])]:
        score: Any = score_function(made("model", path=str(saved(template=template)), device="cpu"))
        found = score(prompts=["Hi", "Hi"], completions=["Yes", "Yes"], tools=[tools, []])
        assert found == pytest.approx([expected[1] if notes else expected[0], expected[1]], abs=1e-6)
        assert score.notes() == notes


def test_a_text_of_just_as_many_tokens_loses_nothing(saved: Callable[..., Path]) -> None:
    score: Any = score_function(made("model", path=str(saved()), device="cpu", max_tokens=8))
    score(prompts=["1234"], completions=["5678"])
    assert score.notes() == []


def test_labels_and_activations(saved: Callable[..., Path]) -> None:
    folder = saved("llama", ("bad", "good"))
    with pytest.raises(ValueError, match=r"several labels, .*: 0 \(bad\), 1 \(good\)"):
        scores(folder)
    with pytest.raises(ValueError, match=r"no label best; it has 0 \(bad\), 1 \(good\)"):
        scores(folder, label="best")
    bad, good = (torch.tensor(scores(folder, label=label), dtype=torch.float64) for label in (0, "good"))
    both = torch.stack([bad, good], 1)
    assert scores(folder, label=1, activation="softmax") == pytest.approx(both.softmax(1)[:, 1].tolist())
    assert scores(folder, label=1, activation="sigmoid") == pytest.approx(good.sigmoid().tolist())


def test_a_language_model_is_no_reward_model(saved: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"lack 1 of 21 weights: score.weight \(reward.path\)"):
        scores(saved("causal"))


def test_pickled_weights_are_not_read(saved: Callable[..., Path], tmp_path: Path) -> None:
    for file in saved().iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({"score.weight": torch.zeros(1, 16)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"holds pickled weights alone, pytorch_model\.bin, .* \(reward\.path\)"):
        scores(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config.json \(reward.path\)"):
        made("model", path=str(tmp_path)).check("reward")
    made("model", path="someone/some-model").check("reward")


def test_a_run_means_the_reward_model_that_it_trained(saved: Callable[..., Path], tmp_path: Path) -> None:
    write_record(tmp_path, {})
    (tmp_path / CONFIG).write_text("{}")
    reward = made("model", path=str(tmp_path))
    with pytest.raises(UserError, match=r"is a run without a trained reward model \(reward.path\)"):
        reward.check("reward")
    with pytest.raises(UserError, match="is a run without a trained reward model"):
        score_function(reward)
    shutil.copytree(saved(), tmp_path / "reward_model")
    reward.check("reward")
    assert scores(tmp_path) == scores(saved())


def test_a_run_says_in_one_line_that_it_is_none(
    saved: Callable[..., Path], rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal above, from a process that need not import torch for it.

    That a run is scored by a reward model is in tests/contract/test_configs.py.
    """
    (tmp_path / "refusing.py").write_text(
        "from rlhf_cli.errors import UserError\n"
        "def make_score(path, **options): raise UserError(f'the files of {path} lack 1', where='reward.path')\n"
    )
    monkeypatch.setattr(Model, "factory", f"{tmp_path / 'refusing.py'}:make_score")
    few = ("config=tiny", "steps=1", "evaluate.every=0", "max_new_tokens=4", "display=quiet", "run_dir=no")
    outcome = rlhf("train", *few, "reward=model", f"reward.path={saved('causal')}")
    assert outcome.code == 4
    assert f"reward=model cannot be used: the files of {saved('causal')} lack 1 (reward.path)" in outcome.err
