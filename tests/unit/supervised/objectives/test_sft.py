"""SFT: the mean of -log p over completion tokens."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean

import pytest
import torch

from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.evaluation.intervals import Interval, t_quantile, wilson
from rlhf_cli.models.policy import Policy
from rlhf_cli.supervised.objectives.sft import Sft, ratio_values
from tests.unit.supervised.support import SFT, batch_of, example_of
from tests.unit.support import logits_of

sft = Sft.model_validate(SFT)


def test_the_loss_of_a_completion_is_what_a_plain_forward_pass_gives(moved: Policy) -> None:
    examples = [example_of(moved, "Say a.", "abc"), example_of(moved, "b", "x"), example_of(moved, "Hello", "yy z")]
    likely = int(logits_of(moved, examples[2].prompt.tokens)[-1].argmax())
    examples[2] = replace(examples[2], completions=((likely, *examples[2].completions[0][1:]),))
    batch = batch_of(moved, examples)
    reading = sft.judge(batch, torch.tensor([2, 0]), TransformersEngine(moved))
    assert reading.columns["hits"][0] >= 1
    learned = sft.read(batch, torch.tensor([2, 0]), TransformersEngine(moved))
    assert (learned.losses.requires_grad, list(learned.columns)) == (True, ["tokens"])
    torch.testing.assert_close(learned.losses.detach(), reading.losses)
    for loss, hits, example in zip(reading.losses, reading.columns["hits"], (examples[2], examples[0]), strict=True):
        completion, start = example.completions[0], len(example.prompt.tokens)
        logits = logits_of(moved, [*example.prompt.tokens, *completion])[start - 1 : -1]
        expected = [float(-row.log_softmax(0)[token]) for row, token in zip(logits, completion, strict=True)]
        assert float(loss.detach()) == pytest.approx(sum(expected), rel=1e-5)
        assert float(hits) == sum(int(row.argmax()) == token for row, token in zip(logits, completion, strict=True))
    assert reading.columns["tokens"].tolist() == [5, 4]  # four and three letters, and the end token
    assert sft.size(batch) == 4 + 2 + 5


def test_the_prompt_is_read_and_not_learned(moved: Policy) -> None:
    """The loss of a completion does not change with what would be likely at the prompt's own places."""
    batch = batch_of(moved, [example_of(moved, "Say a.", "abc")])
    assert int(batch.rollout.completion_mask.sum()) == len("abc") + 1


def test_figures_weigh_every_token_alike() -> None:
    columns = {"loss": [6.0, 1.0], "tokens": [3.0, 1.0], "hits": [0.0, 1.0]}
    figures = sft.held_out_figures(columns)
    assert figures == {"loss": 7 / 4, "perplexity": math.exp(7 / 4), "accuracy": 1 / 4, "completion/length": 2.0}
    assert sft.figures(columns) == {"loss": 7 / 4, "completion/length": 2.0}
    assert sft.held_out_figures(columns | {"loss": [9e9, 0.0]})["perplexity"] == math.exp(700)
    assert [fmean(values) for values in sft.values(columns).values()] == [7 / 4, 1 / 4]


def test_the_accuracy_has_wilsons_interval() -> None:
    # four rows of four tokens, one hit: r = 1/16, linearised 0, 0, 0, 1/4: se = 1/16, so that r (1 - r) / se^2 = 15
    # tokens; with t(3)^2 = 10.12796: middle (1/16 + 10.12796/30) / 1.675197, half-width 3.182446 / 1.675197 times
    # sqrt(1/16 15/16 / 15 + 10.12796 / 900)
    columns = {"loss": [1.0] * 4, "tokens": [4.0] * 4, "hits": [0.0, 0.0, 0.0, 1.0]}
    found = sft.intervals(columns)["accuracy"]
    assert (found.mean, found.low, found.high) == pytest.approx((1 / 16, 0.004933, 0.472740), abs=2e-6)


@pytest.mark.parametrize(("hits", "count"), [(0.0, 4), (4.0, 4), (2.0, 4)])
def test_the_accuracy_of_rows_that_do_not_differ_counts_rows(hits: float, count: int) -> None:
    columns = {"loss": [1.0] * 4, "tokens": [4.0] * 4, "hits": [hits] * 4}
    assert sft.intervals(columns)["accuracy"] == Interval.of(wilson(hits / 4, count, t_quantile(0.975, 3)))


def test_the_accuracy_counts_no_more_tokens_than_there_are() -> None:
    # 0.49 and 0.51 of 100 tokens each: the spread of the rows is smaller than that of 200 draws
    columns = {"loss": [1.0] * 2, "tokens": [100.0] * 2, "hits": [49.0, 51.0]}
    assert sft.intervals(columns)["accuracy"] == Interval.of(wilson(0.5, 200, t_quantile(0.975, 1)))
    assert sft.intervals({"loss": [1.0], "tokens": [4.0], "hits": [1.0]}) == {}


def test_a_ratio_has_the_standard_error_of_the_delta_method() -> None:
    sums, counts = [6.0, 1.0, 8.0, 3.0], [3.0, 1.0, 2.0, 2.0]
    values = ratio_values(sums, counts)
    ratio, size = 18 / 8, 2.0
    assert fmean(values) == pytest.approx(ratio)
    assert values == pytest.approx([ratio + (s - ratio * c) / size for s, c in zip(sums, counts, strict=True)])
    assert ratio_values([4.0, 2.0], [2.0, 1.0]) == [2.0, 2.0]  # no spread of ratios, no error
