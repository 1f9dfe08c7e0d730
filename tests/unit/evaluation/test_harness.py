"""lm-eval's results of two models as one table, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_cli.evaluation.harness import Level, Score, compare_tables


def results(hits: list[float], perplexity: float = 8.0, filter_name: str = "none") -> dict[str, Any]:
    """What lm-eval returns for a task of so many documents, with a mean and a metric that is none."""
    mean = sum(hits) / len(hits)
    return {
        "results": {
            "plus": {
                "name": "plus",
                "alias": "plus",
                "sample_len": len(hits),
                f"acc,{filter_name}": mean,
                f"acc_stderr,{filter_name}": 0.25,
                f"perplexity,{filter_name}": perplexity,
                f"perplexity_stderr,{filter_name}": "N/A",
            }
        },
        "n-shot": {"plus": 3},
        "higher_is_better": {"plus": {"acc": True, "perplexity": False}},
        "samples": {
            "plus": [
                {"doc_id": n, "filter": name, "acc": hit if name == filter_name else 1 - hit, "perplexity": 1.0}
                for name in (filter_name, "another")
                for n, hit in enumerate(hits)
            ]
        },
    }


def test_the_difference_is_paired_by_document() -> None:
    """Gaps 1, 0, 0, 1: mean 1/2, variance 1/3, so a standard error of sqrt(1/12); unpaired it would be sqrt(1/8)."""
    accuracy, perplexity = compare_tables(results([1, 0, 1, 1]), results([0, 0, 1, 0], 11.0))
    assert accuracy == Score(
        task="plus",
        metric="acc",
        filter="none",
        documents=4,
        shots=3,
        higher_is_better=True,
        policy=Level(0.75, 0.25),
        reference=Level(0.25, 0.25),
        difference=Level(0.5, pytest.approx((1 / 12) ** 0.5)),
    )
    assert (perplexity.policy, perplexity.reference, perplexity.difference) == (
        Level(8.0, None),
        Level(11.0, None),
        Level(-3.0, None),
    )
    assert perplexity.higher_is_better is False


def test_documents_of_another_filter_do_not_count() -> None:
    accuracy, _ = compare_tables(results([1, 1, 0], filter_name="first"), results([0, 1, 0], filter_name="first"))
    assert accuracy.filter == "first"
    assert accuracy.difference == Level(pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_without_documents_no_error_is_claimed() -> None:
    """A group has no documents of its own; its tasks have them."""
    both = [{key: value for key, value in results([1, 0]).items() if key == "results"} for _ in range(2)]
    for side in both:
        del side["results"]["plus"]["sample_len"]
    accuracy, _ = compare_tables(*both)
    assert accuracy.documents == 0
    assert accuracy.difference == Level(0.0, None)
    assert (accuracy.shots, accuracy.higher_is_better) == (None, None)


def test_a_document_that_only_one_model_has_is_in_no_pair() -> None:
    """Of the reference's 0, 0 and 0 the first two are paired with 1 and 0."""
    more, fewer = results([0, 0, 0]), results([1, 0])
    assert compare_tables(fewer, more)[0].difference == Level(0.5, pytest.approx(0.5))
    assert compare_tables(more, fewer)[0].difference == Level(-0.5, pytest.approx(0.5))


def test_two_documents_have_an_error() -> None:
    """Gaps 1 and 0: variance 1/2, over 2."""
    accuracy, perplexity = compare_tables(results([1, 0], 8.0), results([0, 0], 8.5))
    assert accuracy.difference == Level(0.5, pytest.approx(0.5))
    assert perplexity.difference == Level(-0.5, None)  # no mean over documents, though it is near theirs
