"""The page of one run: its state, held-out comparison, curves, completions, and how to repeat it."""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rlhf_cli.evaluation.evaluation import Comparison
from rlhf_cli.evaluation.intervals import with_error
from rlhf_cli.evaluation.optimum import progress_to_optimum
from rlhf_cli.plural import plural
from rlhf_cli.report.answers import answers_by_change
from rlhf_cli.report.curves import pictures, timing
from rlhf_cli.report.page import render
from rlhf_cli.report.series import number, steps_per_point
from rlhf_cli.report.table import changes_table
from rlhf_cli.report.texts import cut, mark_differences
from rlhf_cli.report.votes import labelled
from rlhf_cli.runs.binding import CHANGED, CONFIGS, HELD_OUT, PARENT
from rlhf_cli.runs.folder import AUDITS
from rlhf_cli.runs.json_files import read_last_lines, read_rows
from rlhf_cli.runs.listing import overrides_in
from rlhf_cli.runs.reading import Row, SavedRun, why_not_compared

SHOWN: Final = 3
"""Prompts of a step whose logged completions are shown."""
_DRAWN: Final = {
    "headroom": "drawn by headroom; the curves of J, reward, KL and entropy are weighed to all prompts, the lengths "
    "are not",
    "dynamic": "drawn until enough groups have different scores, and the KL of the others is not learned; the curves "
    "are of all groups that were drawn",
}
_QUOTED: Final = re.compile(
    r"^(\+*[\w@/]+=|\+*[\w.@/]+=(?='(?:[^\W\d]|/))(?!'(?i:null|true|false|nan|inf)'))'((?! )[\w./:@+ -]*(?<! ))'"
)
"""A value in quotes that it does not need: without them it is the same text, and neither a list nor a number."""


def html(run: SavedRun) -> str:
    """The whole page."""
    greedy = run.result.texts if run.result else ()
    return render(
        "run.html.j2",
        title=f"{run.status.folder.name}: {subject(run)}",
        standing=_standing(run),
        **_held_out(run),
        curves=pictures(run.metrics, count_prompts(run)),
        constants=_constants(run.config),
        texts=[(row.prompt, *mark_differences(cut(row.reference), cut(row.policy))) for row in greedy],
        texts_step=run.result.step if run.result else None,
        votes=labelled(run.status.folder),
        answers=answers_by_change(run.first, run.last, _prompts(run.record)),
        samples=[*_samples(run.early), *_samples(run.late)],
        **shared_parts(run),
    )


def shared_parts(run: SavedRun) -> dict[str, Any]:
    """The parts that the page of a run of any verb has: the time, the command to repeat it, the settings."""
    return {
        "steps_a_point": steps_per_point(len(run.metrics)),
        "times": timing(run.timings),
        "timings_a_point": steps_per_point(len(run.timings)),
        "repeat": command_to_repeat(run.record, run.status.verb),
        "is_changed": isinstance(known := run.record.get(CONFIGS), list) and len(known) > 1,
        "go_on": run.status.continue_command(anywhere=True),
        "is_finished": run.status.state == "finished",
        "config": run.config,
        "machine": {key: value for key, value in run.record.items() if key not in ("command", HELD_OUT)},
    }


def subject(run: SavedRun) -> str:
    """The model and the reward, in words."""
    return f"{model_name(run.config)}, trained from {_reward(run.config.get('reward'))}"


def model_name(config: Row) -> str:
    """The last part of the model's path, or its kind where it has none."""
    model = mapping_in(config, "model")
    path = model.get("path")
    return Path(path).name if isinstance(path, str) else str(model.get("kind", "a model"))


def verdict(comparison: Comparison) -> str:
    """One sentence: whether the objective changed on the held-out prompts."""
    objective, reward, kl = (comparison.change[name] for name in ("objective", "reward", "kl"))
    levels = f"J {with_error(objective, 3, '+')}, reward {with_error(reward, 3, '+')}, for {kl.mean:z.2f} nats of KL"
    if objective.low > 0:
        return f"The objective rose on {objective.count} held-out prompts: {levels}."
    if objective.high < 0:
        return f"The objective fell on {objective.count} held-out prompts: {levels}."
    return f"{objective.count} held-out prompts cannot tell whether the objective changed: {levels}."


def name_of_start(config: Row) -> str:
    """The name of the policy before training: it is the reference, unless that is another model."""
    return "before" if mapping_in(config, "reference").get("kind") == "model" else "reference"


def count_prompts(run: SavedRun) -> int:
    """The number of prompts of an evaluation; 0 where it is unknown."""
    if run.first is not None:
        return len(run.first.prompts)
    count = number(mapping_in(run.config, "evaluate").get("prompts"))
    return 0 if math.isnan(count) else int(count)


def _standing(run: SavedRun) -> list[tuple[str, str]]:
    status, record, stopped = run.status, run.record, run.result.stopped if run.result else None
    skipped = sum(number(row.get("skipped")) == 1 for row in run.metrics)
    failures = sum(value for row in run.metrics if (value := number(row.get("reward/failures"))) > 0)
    return [
        ("state", status.state + (f": {status.reason}" if status.reason else "")),
        ("step", f"{'–' if status.step is None else status.step} of {'–' if status.steps is None else status.steps}"),
        ("ended early", f"{stopped.key}: {stopped.reason}" if stopped else ""),
        ("algorithm", _algorithm(run.config)),
        ("prompts", _DRAWN.get(str(run.config.get("prompts")), "")),
        ("model", describe_model(record)),
        ("steps that changed nothing", str(skipped) if skipped else ""),
        ("completions without a score", f"{failures:g}" if failures else ""),
        ("fork of", _forked_from(record)),
        ("audited", _audited(status.folder)),
        ("folder", str(status.folder)),
    ]


def _forked_from(record: Row) -> str:
    parent = mapping_in(record, PARENT)
    changed = ", ".join(f"{key}: {values[0]} → {values[1]}" for key, values in mapping_in(parent, "changed").items())
    return f"{parent.get('folder')}, step {parent.get('step')}; {changed or 'nothing changed'}" if parent else ""


def _audited(folder: Path) -> str:
    """Say what the last `rlhf audit` checked and found."""
    last = next(read_rows(read_last_lines(folder / AUDITS)), {})
    repeated = last.get("repeated")
    if not isinstance(repeated, list):
        return ""
    found = "as the run wrote it" if last.get("clean") is True else "NOT as the run wrote it"
    where = ", ".join(f"{one.get('first')} to {one.get('last')}" for one in repeated if isinstance(one, Mapping))
    return f"{last.get('time')}: {found}; all files, and steps {where or 'none'} repeated"


def _held_out(run: SavedRun) -> dict[str, Any]:
    """The newest comparison with the reference: from the evaluations, or from a result that is as new."""
    result = run.result
    if result and run.last and result.step != run.last.step:
        result = None
    comparison = run.comparison or (result.comparison if result else None)
    if comparison is None:
        why = "no later evaluation than the one at the start"
        if run.first is None:
            why = why_not_compared(run.record) if CHANGED in run.record else "the run was never evaluated"
        return {"verdict": f"Nothing to compare: {why}.", "changes": None, "notes": []}
    last = run.last or result
    assert last is not None
    optimum = (result or last).optimum
    notes = [f"After step {last.step}, at T = 1. ±: 95 % interval over prompts; the change is paired by prompt."]
    notes += [f"{progress_to_optimum(optimum)}."] if optimum else []
    table = changes_table(comparison, last.beta, (name_of_start(run.config), "policy", "change"))
    return {"verdict": verdict(comparison), "changes": table, "notes": notes}


def _prompts(record: Row) -> list[str]:
    """The held-out prompts in the order of their numbers; none where the run has not ended, or nobody knows."""
    prompts = record.get(HELD_OUT)
    return prompts if isinstance(prompts, list) and all(isinstance(prompt, str) for prompt in prompts) else []


def _constants(config: Row) -> str:
    schedules = {"β": mapping_in(config, "beta"), "T": mapping_in(config, "temperature")}
    return ", ".join(
        f"{key} = {each.get('value')}" for key, each in schedules.items() if each.get("kind") == "constant"
    )


def _samples(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """A few prompts of a step, each with a line about its first completion and that completion."""
    by_prompt: dict[str, Row] = {}
    for row in rows:
        by_prompt.setdefault(str(row.get("prompt", "")), row)
    samples = []
    for prompt, row in list(by_prompt.items())[:SHOWN]:
        end = ", cut at max_new_tokens" if row.get("truncated") else ""
        name = f"step {row['step']}: score {number(row.get('score')):z.3f}, KL {number(row.get('kl')):z.2f} nats{end}"
        samples.append((prompt, name, str(row.get("completion", ""))))
    return samples


def command_to_repeat(record: Row, verb: str, without: Sequence[str] = ()) -> str | None:
    """The command that starts a run of `verb` with the same settings in its own folder; None where run.json has none.

    The overrides of the keys `without`, and of what is inside them, are left out.
    """
    words = record.get("command")
    if not isinstance(words, list) or words[:1] != ["rlhf"] or not all(isinstance(word, str) for word in words):
        return None
    kept = [_QUOTED.sub(r"\1\2", word) for word in overrides_in(record)]
    left_out = tuple(f"{key}{end}" for key in without for end in ("=", "."))
    kept = [word for word in kept if not word.startswith(left_out)]
    if (parent := mapping_in(record, PARENT)) and {"folder", "step"} <= parent.keys():
        return shlex.join(["rlhf", "fork", f"{parent['folder']}@{parent['step']}", *kept])
    return shlex.join(["rlhf", *verb.split(), *kept])


def _reward(reward: Any) -> str:
    if not isinstance(reward, Mapping):
        return "a reward"
    own = reward.get("function")
    return f"a reward of its own: {Path(own).name}" if isinstance(own, str) else f"the reward {reward.get('kind', '')}"


def _algorithm(config: Row) -> str:
    prompts, completions = config.get("prompts_per_step", 0), config.get("samples_per_prompt", 0)
    step = f"{plural(prompts, 'prompt')} x {plural(completions, 'completion')} a step"
    return f"{mapping_in(config, 'algorithm').get('kind')}, {step}" if "algorithm" in config else ""


def describe_model(record: Row) -> str:
    """The weights of the model, in words; empty where the record does not hold them."""
    model = mapping_in(record, "model")
    weights, trained = (number(model.get(key)) for key in ("parameters", "trained"))
    if math.isnan(weights + trained):
        return ""
    return f"{weights:,.0f} weights, {trained:,.0f} of them trained, on {record.get('device')}"


def mapping_in(values: Row, key: str) -> Row:
    """The mapping under `key`; empty where there is none."""
    inner = values.get(key)
    return inner if isinstance(inner, Mapping) else {}
