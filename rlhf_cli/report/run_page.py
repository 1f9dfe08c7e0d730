"""The page of one run: how it stands, what the held-out prompts say, its curves, its completions, how to repeat it."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rlhf_cli.charts.words import safe
from rlhf_cli.evaluation.evaluation import Comparison
from rlhf_cli.evaluation.intervals import with_error
from rlhf_cli.evaluation.optimum import progress_to_optimum
from rlhf_cli.report import elements
from rlhf_cli.report.curves import number, pictures, timing, together
from rlhf_cli.report.difference import marked
from rlhf_cli.report.elements import command, cut, folded, grid, listing, sides, table
from rlhf_cli.report.page import Section, page
from rlhf_cli.runs.reading import Row, Written

SHOWN: Final = 3
"""Logged completions of a step."""
_OWN: Final = ("hydra.", "run_dir=", "sweep_dir=", "resume=", "display=", "seeds=", "jobs=")
"""Arguments that say where a run writes and what it shows, not what it is."""
_QUOTED: Final = re.compile(r"([\w.@/]+=)'([\w./:@,+-]*)'")
"""A value in quotes that it could do without."""


def html(run: Written) -> str:
    """The whole page; it loads nothing and runs nothing."""
    sections = [_standing(run), _held_out(run), _curves(run), _time(run), _texts(run), _samples(run), _again(run)]
    return page(f"{run.facts.folder.name}: {subject(run)}", [one for one in sections if one], elements.STYLE)


def subject(run: Written) -> str:
    """What is trained from what."""
    model, reward = _named(run.config, "model"), run.config.get("reward")
    path = model.get("path")
    name = Path(path).name if isinstance(path, str) else str(model.get("kind", "a model"))
    return f"{name}, trained from {_reward(reward)}"


def changes(comparison: Comparison, beta: float, names: tuple[str, str, str]) -> str:
    """Two levels and the paired change, as a table; `names` are those of the columns."""
    labels = (
        ("objective", f"J = reward − {beta:.3g}·KL", 3),
        ("reward", "reward", 3),
        ("kl", "KL, nats", 3),
        ("length", "length, tokens", 1),
    )
    rows = []
    for key, label, digits in labels:
        levels = (with_error(side[key], digits) for side in (comparison.before, comparison.after))
        rows.append([label, *levels, with_error(comparison.change[key], digits, "+")])
    old, new = comparison.distinct_2
    rows.append(["distinct word pairs", f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}"])
    return table(["", *names], rows, strong=labels[0][1])


def verdict(comparison: Comparison) -> str:
    """What the held-out prompts say, in one sentence."""
    objective, reward, kl = (comparison.change[name] for name in ("objective", "reward", "kl"))
    told = f"J {with_error(objective, 3, '+')}, reward {with_error(reward, 3, '+')}, for {kl.mean:.2f} nats of KL"
    if objective.low > 0:
        return f"The objective rose on {objective.count} held-out prompts: {told}."
    if objective.high < 0:
        return f"The objective fell on {objective.count} held-out prompts: {told}."
    return f"{objective.count} held-out prompts cannot tell whether the objective changed: {told}."


def _standing(run: Written) -> Section:
    facts, record = run.facts, run.record
    skipped = sum(number(row.get("skipped")) == 1 for row in run.metrics)
    failures = sum(value for row in run.metrics if (value := number(row.get("reward/failures"))) > 0)
    rows = [
        ("state", facts.state + (f": {facts.reason}" if facts.reason else "")),
        ("step", f"{'–' if facts.step is None else facts.step} of {'–' if facts.steps is None else facts.steps}"),
        ("algorithm", _algorithm(run.config)),
        ("model", _model(record)),
        ("steps that changed nothing", str(skipped) if skipped else ""),
        ("completions without a score", f"{failures:g}" if failures else ""),
        ("folder", str(facts.folder)),
    ]
    return Section("How it stands", body=elements.facts(rows))


def _held_out(run: Written) -> Section:
    current = run.result if run.result and run.result.step == (run.last.step if run.last else run.result.step) else None
    comparison = run.comparison or (current.comparison if current else None)
    if comparison is None:
        why = "the run was never evaluated" if run.first is None else "no later evaluation than the one at the start"
        return Section("Held-out prompts", [f"Nothing to compare: {why}."])
    last = run.last or current
    assert last is not None
    optimum = current.optimum if current else run.last.optimum if run.last else None
    body = changes(comparison, last.beta, ("reference", "policy", "change"))
    notes = [f"After step {last.step}, at T = 1. ±: 95 % interval over prompts; the change is paired by prompt."]
    notes += [f"{progress_to_optimum(optimum).capitalize()}."] if optimum else []
    body += "".join(f'<p class="source">{safe(note)}</p>' for note in notes)
    return Section("Held-out prompts", [verdict(comparison)], body=body)


def _curves(run: Written) -> Section | None:
    found = pictures(run.metrics, evaluated_prompts(run))
    if not found:
        return None
    said = [
        "Bands: one standard error over the prompts of a step. Held-out points: 95 % intervals over their prompts; the "
        "point at step 0 is the reference."
    ]
    settings = {"β": _named(run.config, "beta"), "T": _named(run.config, "temperature")}
    constant = [f"{name} = {one.get('value')}" for name, one in settings.items() if one.get("kind") == "constant"]
    said += [f"Constant: {', '.join(constant)}."] if constant else []
    return Section("Curves", [*said, *averaged(len(run.metrics))], body=grid(found))


def averaged(steps: int) -> list[str]:
    """Says how many steps share a point, where several do."""
    size = together(steps)
    return [f"The run is long: a point of a curve is the mean of {size} neighbouring steps."] if size > 1 else []


def evaluated_prompts(run: Written) -> int:
    """How many prompts an evaluation has."""
    if run.first is not None:
        return len(run.first.prompts)
    count = number(_named(run.config, "evaluate").get("prompts"))
    return 0 if math.isnan(count) else int(count)


def _time(run: Written) -> Section | None:
    found = timing(run.timings)
    return Section("Time", averaged(len(run.timings)), body=grid(found)) if found else None


def _texts(run: Written) -> Section | None:
    if run.result is None or not run.result.texts:
        return None
    body = []
    for row in run.result.texts:
        before, after = marked(cut(row.reference), cut(row.policy))
        body.append(sides(row.prompt, [("reference", before), ("policy", after)]))
    key = "Greedy completions. Struck through: words of the reference alone; underlined: words of the policy alone."
    return Section(f"What changed in the texts, after step {run.result.step}", [key], body="\n".join(body))


def _samples(run: Written) -> Section | None:
    parts = [part for rows in (run.early, run.late) for part in _of_step(rows)]
    said = "Sampled as they were for training, one of each prompt."
    return Section("Samples from training", [said], body="\n".join(parts)) if parts else None


def _of_step(rows: Sequence[Row]) -> list[str]:
    """The first completion of each of a few prompts."""
    by_prompt: dict[str, Row] = {}
    for row in rows:
        by_prompt.setdefault(str(row.get("prompt", "")), row)
    parts = []
    for prompt, row in list(by_prompt.items())[:SHOWN]:
        end = ", cut at max_new_tokens" if row.get("truncated") else ""
        name = f"step {row['step']}: score {number(row.get('score')):.3f}, KL {number(row.get('kl')):.2f} nats{end}"
        parts.append(sides(prompt, [(name, safe(cut(str(row.get("completion", "")))))]))
    return parts


def _again(run: Written) -> Section:
    parts = []
    if line := repeating(run.record):
        parts += ["<p>The same run again, from the same working directory:</p>", command(line)]
    else:
        parts += ["<p>How it was started was not written down; its configuration is whole.</p>"]
    if line := run.facts.going_on(anywhere=True):
        parts += [f"<p>{'Twice as many steps' if run.facts.state == 'finished' else 'To go on with it'}:</p>"]
        parts += [command(line)]
    machine = {key: value for key, value in run.record.items() if key != "command"}
    parts += [folded("Configuration", listing(run.config))] if run.config else []
    parts += [folded("Versions and machine", listing(machine))] if machine else []
    return Section("To repeat it", body="\n".join(parts))


def repeating(record: Row) -> str:
    """The command that starts the same run in a folder of its own; '' where run.json does not hold it."""
    words = record.get("command")
    if not isinstance(words, list) or not words or words[0] != "rlhf" or not all(isinstance(w, str) for w in words):
        return ""
    kept = [_QUOTED.sub(r"\1\2", word) for word in words[1:] if "=" in word and not word.startswith(_OWN)]
    return shlex.join(["rlhf", "train", *kept])


def _reward(reward: Any) -> str:
    if not isinstance(reward, Mapping):
        return "a reward"
    own = reward.get("function")
    return f"a reward of its own: {own}" if isinstance(own, str) else f"the reward {reward.get('kind', '')}"


def _algorithm(config: Row) -> str:
    size = f"{config.get('prompts_per_step')} prompts x {config.get('samples_per_prompt')} completions a step"
    return f"{_named(config, 'algorithm').get('kind')}, {size}" if "algorithm" in config else ""


def _model(record: Row) -> str:
    model = _named(record, "model")
    weights, trained = (number(model.get(key)) / 1e6 for key in ("parameters", "trained"))
    if math.isnan(weights + trained):
        return ""
    return f"{weights:.4g} million weights, {trained:.3g} million of them trained, on {record.get('device')}"


def _named(values: Row, key: str) -> Row:
    """A group of settings; empty where it is none."""
    inner = values.get(key)
    return inner if isinstance(inner, Mapping) else {}
