"""The examples of a run: which of them are encoded, and in which order they are used."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlhf_cli.errors import UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.prompts.rows import PartRows, Rows
from rlhf_cli.supervised.examples import encode_examples
from tests.unit.supervised.support import BRADLEY_TERRY, DPO, SFT, row_of, settings_of
from tests.unit.support import Recorder, rows_of, source_of

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content + eos_token }}{% endfor %}" + (
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TRAIN = [row_of(n, completion="x" * n, chosen="x" * n, rejected="y") for n in range(1, 7)]
HELD_OUT = [row_of(n, prompt="b", completion="z", chosen="z", rejected="y") for n in (8, 9)]


@pytest.mark.parametrize("objective", [SFT, DPO, BRADLEY_TERRY])
def test_an_epoch_uses_every_row_once_in_an_order_of_its_own(objective: dict[str, object], moved: Policy) -> None:
    config = settings_of(objective, steps=6, prompts_per_step=2)
    rows = rows_of(TRAIN, HELD_OUT)
    examples, held_out = encode_examples(rows, moved, config, Recorder())
    used = [example.prompt.row.where for step in range(6) for example in examples.of_step(step, 2, config.seed)]
    assert sorted(used[:6]) == sorted(used[6:]) == sorted(row.where for row in TRAIN)
    assert used[:6] != used[6:]
    assert [example.prompt.row.where for example in held_out] == ["rows.jsonl:8", "rows.jsonl:9"]
    again, _ = encode_examples(rows, moved, config, Recorder())
    assert again == examples


def test_only_what_the_run_uses_is_encoded(moved: Policy) -> None:
    """A row that no step reads may be anything: it is not looked at."""
    config = settings_of(SFT, steps=1, prompts_per_step=2)
    examples, _ = encode_examples(rows_of(TRAIN, HELD_OUT), moved, config, Recorder())
    assert len(examples.encoded) == 2


def test_rows_that_are_too_long_are_counted_and_are_no_part_of_the_order(moved: Policy) -> None:
    config = settings_of(SFT, steps=8, prompts_per_step=1, max_new_tokens=5)
    reporter = Recorder()
    examples, _ = encode_examples(rows_of(TRAIN, HELD_OUT, too_long="drop"), moved, config, reporter)
    assert [part.rows for part in examples.parts] == [4]  # the end token is the fifth
    assert reporter.notes == ["data: 8 rows; 2 too long left out; 4 to train on, 2 held out"]
    with pytest.raises(UserError, match="tokens, more than max_new_tokens=5"):
        encode_examples(rows_of(TRAIN, HELD_OUT), moved, config, Recorder())
    with pytest.raises(UserError, match=r"^1 held-out row left, and an evaluation needs two") as caught:
        encode_examples(rows_of(TRAIN, HELD_OUT[:1]), moved, settings_of(SFT), Recorder())
    fix = "raise max_new_tokens or data.max_prompt_tokens, or switch evaluation off (evaluate.every=0)"
    assert caught.value.fix == fix


@pytest.mark.parametrize("objective", [SFT, DPO, BRADLEY_TERRY])
def test_a_row_is_trained_on_as_well_where_its_texts_are(objective: dict[str, object], moved: Policy) -> None:
    """All rows have one prompt; the second held-out row has the texts of a training row too."""
    held_out = [
        row_of(8, completion="z", chosen="z", rejected="y"),
        row_of(9, completion="x", chosen="x", rejected="y"),
    ]
    reporter = Recorder()
    encode_examples(rows_of(TRAIN, held_out), moved, settings_of(objective), reporter)
    assert reporter.notes == ["data: 8 rows; 6 to train on, 2 held out; 1 of those trained on as well"]


@pytest.mark.parametrize(("objective", "is_used"), [(DPO, False), (BRADLEY_TERRY, True)])
def test_margins_that_teach_nothing_are_counted(objective: dict[str, object], is_used: bool, moved: Policy) -> None:
    rows, reporter = [row_of(n, chosen="x" * n, rejected="y", margin=n // 6) for n in range(1, 7)], Recorder()
    encode_examples(rows_of(rows, HELD_OUT), moved, settings_of(objective, steps=3), reporter)
    said = "1 of 8 rows have a margin, of which only rlhf reward train learns"
    assert reporter.notes == ([] if is_used else [said])


@pytest.mark.parametrize("objective", [SFT, DPO])
def test_completions_that_the_tokenizer_does_not_know_are_counted(objective: dict[str, object], moved: Policy) -> None:
    inner = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["[UNK]", "</s>", "Say", "a", "b", ".", "x", "z", "y"])}, "[UNK]")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="[UNK]")
    policy, reporter = replace(moved, tokenizer=words, end_tokens=(1,), pad_token=1), Recorder()
    # x is a word, xx to xxxxxx are none
    encode_examples(rows_of(TRAIN, HELD_OUT), policy, settings_of(objective, steps=3), reporter)
    assert reporter.notes == [
        "5 of 8 rows have a completion that the tokenizer does not know in part: the model learns [UNK] there"
    ]


@pytest.mark.parametrize(
    ("completion", "said"),
    [
        ("Blue<|end|>\n", "have a completion with '<|end|>' inside, behind which the model learns to go on"),
        ("Blue<|end|>", None),
        ("Name a colour. Blue", "have a completion that begins with the prompt, which the model reads already"),
    ],
)
def test_completions_that_bring_too_much_are_counted(completion: str, said: str | None, moved: Policy) -> None:
    held_out = [
        row_of(n, prompt="Name a colour.", completion=completion, chosen="x", rejected=completion) for n in (8, 9)
    ]
    for objective in (SFT, DPO):
        reporter = Recorder()
        encode_examples(rows_of(TRAIN, held_out), moved, settings_of(objective, steps=3, max_new_tokens=32), reporter)
        assert reporter.notes == ([f"2 of 8 rows {said}"] if said else [])


@pytest.mark.parametrize(
    ("completion", "said"),
    [
        ("Red<|end|>\n<assistant>Blue", "'<|end|>' and the turn's header '<assistant>' inside, behind which the model"),
        ("<assistant>Blue", "a completion with the turn's header '<assistant>' inside, behind which the model learns"),
        ("Ask the <assistant>", None),  # plain words in the middle of a line open no turn
    ],
)
def test_a_pasted_header_is_named(completion: str, said: str | None, moved: Policy) -> None:
    chat = replace(moved, use_chat_template=True)
    held_out = [row_of(n, completion=completion, chosen=completion, rejected="xx") for n in (8, 9)]
    before, moved.tokenizer.chat_template = moved.tokenizer.chat_template, TEMPLATE
    try:
        for objective in (SFT, BRADLEY_TERRY):
            reporter, config = Recorder(), settings_of(objective, steps=3, max_new_tokens=32)
            encode_examples(rows_of(TRAIN, held_out), chat, config, reporter)
            if objective is BRADLEY_TERRY and said:
                said = "a completion with the turn's header '<assistant>' inside, which the chat template writes"
            assert [(said or "") in note for note in reporter.notes] == [True] * bool(said)
    finally:
        moved.tokenizer.chat_template = before


def test_too_few_rows_are_refused(moved: Policy) -> None:
    config = settings_of(SFT, max_new_tokens=3, prompts_per_step=3)
    part = PartRows("", source_of(too_long="drop"), 1.0, TRAIN, HELD_OUT, Counter({"by data.where": 2}))
    with pytest.raises(UserError, match=r"2 training prompts .2 by data.where.*prompts_per_step=3"):
        encode_examples(Rows((part,)), moved, config, Recorder())
    with pytest.raises(UserError, match=r"^1 held-out row left, and"):
        encode_examples(rows_of(TRAIN, HELD_OUT[:1]), moved, settings_of(SFT), Recorder())


def test_many_rows_are_a_phase(moved: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    config, whole = settings_of(SFT, steps=6), rows_of(TRAIN, HELD_OUT)
    expected, _ = encode_examples(whole, moved, config, Recorder())
    monkeypatch.setattr("rlhf_cli.prompts.encoding.BATCH", 2)
    reporter = Recorder()
    assert encode_examples(whole, moved, config, reporter)[0] == expected
    assert reporter.phases == ["encoding the rows"]
