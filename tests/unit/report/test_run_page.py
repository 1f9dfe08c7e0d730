"""The page of a run: every section, nothing that a text could break, and a run of which little is left."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from rlhf_cli.config.arguments import parse_override
from rlhf_cli.evaluation.evaluation import compare
from rlhf_cli.report.curves import PLOTS
from rlhf_cli.report.run_page import command_to_repeat, html, subject, verdict
from rlhf_cli.runs.reading import SavedRun
from rlhf_cli.runs.result import Result, SideBySide
from tests.pages import parse, said
from tests.unit.charts.drawn import SVG
from tests.unit.evaluation.samples import AFTER, BEFORE, evaluation
from tests.unit.report.samples import EMPTY, hostile_run, sample_run


def sections(run: SavedRun) -> dict[str, ElementTree.Element]:
    return {section.findtext("h2") or "": section for section in parse(html(run)).iter("section")}


def test_every_section_is_there() -> None:
    found = sections(sample_run())
    assert list(found) == [
        "Held-out prompts",
        "How it stands",
        "Curves",
        "Time",
        "What changed in the texts, after step 4",
        "All held-out completions",
        "Samples from training",
        "To repeat it",
    ]
    standing = said(found["How it stands"])
    assert "state finished step 4 of 4" in standing
    assert "algorithm rloo, 2 prompts x 2 completions a step" in standing
    assert "135,000,000 weights, 1,843,200 of them trained, on cpu" in standing
    assert len(list(found["Curves"].iter(f"{SVG}svg"))) == 5  # J, reward, KL; length and cut by its evaluations alone
    assert len(list(found["Time"].iter(f"{SVG}svg"))) == 3
    assert "Constant: β = 0.05, T = 1.0." in said(found["Curves"])
    samples = said(found["Samples from training"])
    assert "p1 step 1: score 0.250, KL 0.00 nats, cut at max_new_tokens first" in samples
    assert "p4 step 4: score 0.500, KL 1.50 nats last" in samples
    again = said(found["To repeat it"])
    assert "rlhf train config=tiny beta=0.5 Twice as many steps: rlhf train resume=/runs/a steps=8" in again
    assert "samples_per_prompt: 2" in again
    assert "torch: 2.13" in again


def test_an_interval_stays_on_one_line() -> None:
    assert "2.250 ±&#160;9.530" in html(sample_run()).replace("+", "")


def test_the_table() -> None:
    """Prompt means: reward 2, 0 -> 5, 1.5; KL 0 -> 2, 0.5; t with one degree of freedom is 12.706."""
    section = sections(sample_run())["Held-out prompts"]
    rows = [[cell.text for cell in row] for row in section.iter("tr")]
    assert rows[0] == [None, "reference", "policy", "change"]
    # reward: changes 3 and 1.5, their mean 2.25, standard error 0.75, half-width 9.530
    assert rows[2] == ["reward", "1.000 ± 12.706", "3.250 ± 22.236", "+2.250 ± 9.530"]
    assert [row[0] for row in rows[1:]] == [
        "J = reward − 0.5·KL",
        "reward",
        "KL, nats",
        "length, tokens",
        "distinct word pairs",
    ]
    assert "After step 4, at T = 1." in said(section)
    assert (
        "Of the largest possible gain in J, this policy has at least 30 %; no closer estimate: too few samples."
        in said(section)
    )


def test_all_held_out_completions_are_folded_by_prompt() -> None:
    run = sample_run()
    run = replace(run, record={**run.record, "held_out": ["first", "second"]})
    section = sections(run)["All held-out completions"]
    (outer,) = section.findall("details")
    assert said(outer[0]) == "2 prompts; changes of the reward: +3.000 to +1.500"
    assert [said(one[0]) for one in outer.findall("details")] == ["+3.000 first", "+1.500 second"]
    assert "policy, reward 5.000 4.000 a a a 6.000" in said(section)
    assert "open" not in outer.attrib
    for unknown in (None, [1, 2], "first"):
        run = replace(run, record={**run.record, "held_out": unknown})
        assert "+1.500 held-out prompt 2" in said(sections(run)["All held-out completions"])


@pytest.mark.parametrize(
    ("after", "begins"),
    [
        ([[2.0], [2.1], [1.9]], "The objective rose on 3 held-out prompts: J +1.000 ± 0.248, reward +1.000"),
        ([[0.0], [0.1], [-0.1]], "The objective fell on 3 held-out prompts: J -1.000 ± 0.248"),
        ([[1.2], [1.1], [1.0]], "3 held-out prompts cannot tell whether the objective changed: J +0.100 ± 0.248"),
        ([[0.8], [0.9], [1.0]], "3 held-out prompts cannot tell whether the objective changed: J -0.100 ± 0.248"),
    ],
)
def test_the_verdict(after: list[list[float]], begins: str) -> None:
    # standard deviation 0.1, t with two degrees of freedom 4.303: 4.303 x 0.1 / sqrt(3) = 0.248
    found = verdict(compare(evaluation([[1.0], [1.0], [1.0]]), evaluation(after, step=4)))
    assert found.startswith(begins)
    assert found.endswith("for 0.00 nats of KL.")


def test_what_went_wrong_is_counted_and_else_not_mentioned() -> None:
    rows = [{"step": 1, "skipped": 0.0, "reward/failures": 2}, {"step": 2, "skipped": 1.0, "reward/failures": 1}]
    wrong = said(sections(sample_run(metrics=tuple(rows)))["How it stands"])
    assert "steps that changed nothing 1 completions without a score 3 folder" in wrong
    well = said(sections(sample_run())["How it stands"])
    assert "changed nothing" not in well
    assert "without a score" not in well


def test_that_prompts_were_drawn_by_headroom_is_said() -> None:
    run = sample_run()
    assert "drawn by headroom" not in html(run)
    drawn = html(replace(run, config={**run.config, "prompts": "headroom"}))
    assert "drawn by headroom; the curves of J, reward, KL and entropy are weighed to all prompts" in drawn
    dynamic = html(replace(run, config={**run.config, "prompts": "dynamic"}))
    assert "drawn until enough groups have different scores, and the KL of the others is not learned" in dynamic


def test_samples_are_the_first_of_three_prompts() -> None:
    rows = tuple({"step": 1, "prompt": f"p{n // 2}", "completion": f"c{n}", "score": 0.0, "kl": 0.0} for n in range(8))
    section = sections(sample_run(early=rows, late=()))["Samples from training"]
    boxes = [box.findtext("p") for box in section.iter("div") if box.get("class") == "side"]
    assert boxes == ["c0", "c2", "c4"]


def test_the_texts_are_marked() -> None:
    (section,) = [one for name, one in sections(sample_run()).items() if name.startswith("What changed")]
    assert [one.text for one in section.iter("del")] == ["b"]
    assert [one.text for one in section.iter("ins")] == ["x"]


def test_no_text_breaks_the_page() -> None:
    text = html(hostile_run())
    tags = {element.tag.removeprefix(SVG) for element in parse(text).iter()}
    assert not tags & {"script", "b", "link", "img", "iframe"}
    assert not any("onload" in element.attrib for element in parse(text).iter())
    assert "&lt;/script&gt;&lt;b&gt;&amp;·[31m ·" in text
    assert not {c for c in text if not c.isprintable() and c != "\n"}


def test_the_page_loads_and_runs_nothing() -> None:
    text = html(sample_run()).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img|src=|href=", text)


def test_a_run_of_which_nothing_is_left() -> None:
    found = sections(EMPTY)
    assert list(found) == ["Held-out prompts", "How it stands", "To repeat it"]
    assert "state broken: no usable checkpoint step – of –" in said(found["How it stands"])
    assert "Nothing to compare: the run was never evaluated." in said(found["Held-out prompts"])
    assert "How it was started was not written down" in said(found["To repeat it"])


def test_a_record_of_something_else() -> None:
    standing = said(sections(sample_run(record={"command": 3, "model": {"parameters": "many"}}))["How it stands"])
    assert "weights" not in standing


def test_a_run_that_was_killed_is_compared_by_its_last_evaluation() -> None:
    run = sample_run(result=None)
    found = sections(replace(run, status=replace(run.status, state="stopped", step=3, steps=8)))
    assert "J = reward − 0.5·KL" in said(found["Held-out prompts"])
    assert "this policy has at least 30 %" in said(found["Held-out prompts"])
    assert not any(name.startswith("What changed") for name in found)
    assert "To go on with it: rlhf train resume=/runs/a" in said(found["To repeat it"])


def test_a_run_that_was_only_evaluated_at_its_start() -> None:
    held_out = said(sections(sample_run(result=None, last=None))["Held-out prompts"])
    assert "Nothing to compare: no later evaluation than the one at the start." in held_out


def test_an_older_result_is_not_taken_for_the_present_one() -> None:
    """The run went on: its result is of step 2, the last evaluation of step 4."""
    run = sample_run()
    assert run.result is not None
    old = replace(run.result, step=2, comparison=compare(BEFORE, replace(AFTER, reward=[[9.0, 9.0], [9.0, 9.0]])))
    rows = [[cell.text for cell in row] for row in sections(replace(run, result=old))["Held-out prompts"].iter("tr")]
    assert rows[2][2] == "3.250 ± 22.236"


def test_a_result_without_evaluations_is_shown() -> None:
    held_out = said(sections(sample_run(first=None, last=None))["Held-out prompts"])
    assert "3.250 ± 22.236" in held_out


def test_a_long_run_stays_small_and_says_that_it_is_averaged() -> None:
    """5000 steps, each evaluated, with everything there is to measure and texts of 200 kB."""
    metrics = sample_run().metrics[-1]
    keys = [key for plot in PLOTS for key in (plot.key, plot.error) if key]
    rows = tuple({**metrics, "step": step, **{key: 0.001 * step for key in keys}} for step in range(1, 5001))
    phases = ("rollout", "reward", "reference", "update", "checkpoint", "trainer", "evaluation", "other")
    timings = tuple(
        {"step": step, "tokens_per_s": 1.0 * step, **{f"time/{name}_s": 1.0 + step % 7 for name in phases}}
        for step in range(1, 5001)
    )
    long = "word " * 40_000
    sample = {"prompt": long, "completion": long, "score": 0.0, "kl": 0.0}
    side = SideBySide(long, long, long.replace("word", "other"))
    run = sample_run(
        metrics=rows,
        timings=timings,
        early=tuple({**sample, "step": 1, "prompt": f"{n} {long}"} for n in range(8)),
        result=Result(4, 0.5, 2, 2, None, None, (side,) * 5),
    )
    text = html(run)
    assert len(text.encode()) < 1_000_000
    # 5000 / 200
    assert text.count("a point of a curve is the mean of 25 neighbouring steps") == 2
    assert text.count("more characters)") >= 10


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["rlhf", "seed=1", "hydra.run.dir='/x'", "run_dir=/x", "resume=auto", "sweep_dir=/y"], "rlhf train seed=1"),
        (["rlhf", "beta='adaptive'", "seeds=1", "jobs=2", "display=plain"], "rlhf train beta=adaptive"),
        (["rlhf", "data.path='/a b/p.jsonl'"], "rlhf train 'data.path=/a b/p.jsonl'"),
        (["rlhf", "data.path='/a,b.jsonl'"], "rlhf train 'data.path='\"'\"'/a,b.jsonl'\"'\"''"),
        (["rlhf"], "rlhf train"),
        (["pytest", "x=1"], None),
        (["rlhf", 3], None),
        ([], None),
        (None, None),
    ],
)
def test_the_command_that_repeats_it(command: Any, line: str | None) -> None:
    assert command_to_repeat({"command": command}, "train") == line


@pytest.mark.parametrize("value", ["", "a", "a b", " a", "a ", "a,b", "/a b/c.d", "3", "1e3", "null", "True", "trues"])
def test_it_is_read_as_the_command_that_started_the_run(value: str) -> None:
    word = f"data.prompt='{value}'"
    line = command_to_repeat({"command": ["rlhf", word]}, "train")
    assert line is not None
    assert parse_override(shlex.split(line)[-1]).value() == value == parse_override(word).value()


def test_the_page_says_that_a_resume_changed_settings() -> None:
    twice = {"command": ["rlhf", "steps=2", "seed=1"], "configs": ["a", "b"]}
    assert command_to_repeat(twice, "sft", ("seed",)) == "rlhf sft steps=2"
    page = html(sample_run(record=sample_run().record | twice))
    # no word on the command: a resume by an earlier version left it as it began
    assert "from its start; a resume changed some settings, and\nthe configuration below is that of its end" in page
    assert "a resume changed" not in html(sample_run())


@pytest.mark.parametrize(
    ("model", "reward", "name"),
    [
        ({"kind": "tiny"}, {"kind": "characters"}, "tiny, trained from the reward characters"),
        (
            {"kind": "pretrained", "path": "org/Model"},
            {"kind": "python", "function": "/home/me/my work/r.py:f"},
            "Model, trained from a reward of its own: r.py:f",
        ),
        (None, None, "a model, trained from a reward"),
    ],
)
def test_what_is_trained_from_what(model: Any, reward: Any, name: str) -> None:
    assert subject(sample_run(config={"model": model, "reward": reward})) == name
