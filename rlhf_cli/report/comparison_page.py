"""Runs beside one another: their last evaluations, paired differences, curves on top of each other, other settings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rlhf_cli.charts.words import safe
from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.evaluation.intervals import with_error
from rlhf_cli.report import elements
from rlhf_cli.report.curves import overlaid
from rlhf_cli.report.elements import cut, grid, table
from rlhf_cli.report.page import Section, page
from rlhf_cli.report.run_page import averaged, changes, evaluated_prompts, subject
from rlhf_cli.runs.reading import Row, Written, paired

ASIDE: Final = ("run_dir", "sweep_dir", "resume", "resume_allow", "display", "jobs")
"""Settings that change nothing of what a run learns."""
GROUND: Final = ("processor", "dtype", "threads", "engine", "packages")
"""What of run.json may make two runs differ."""

_FEW: Final = "hardly a prompt has scores in both"


def html(runs: Sequence[Written]) -> str:
    """The whole page; it loads nothing and runs nothing."""
    names = named(runs)
    sections = (_evaluations(runs, names), _differences(runs, names), _curves(runs, names), _settings(runs, names))
    return page(f"{len(runs)} runs beside one another", [one for one in sections if one], elements.STYLE)


def named(runs: Sequence[Written]) -> list[str]:
    """Each run's folder by its last part, or by as many parts as tell it from the others."""
    parts = [run.facts.folder.parts for run in runs]
    names = ["" for _ in runs]
    for length in range(1, max(map(len, parts)) + 1):
        shorter = ["/".join(one[-length:]) for one in parts]
        count = Counter(shorter)
        names = [name or (short if count[short] == 1 else "") for name, short in zip(names, shorter, strict=True)]
    return [name or str(run.facts.folder) for name, run in zip(names, runs, strict=True)]


def comparable(before: Written, after: Written) -> str:
    """Why two last evaluations cannot be paired; '' where they can."""
    if before.last is None or after.last is None:
        return "one of them was not evaluated after its start"
    prompts = [_inner(run.record, "data").get("sha256") for run in (before, after)]
    if prompts[0] is None or prompts[0] != prompts[1]:
        return "their prompts differ"
    rewards = [(run.config.get("reward"), _inner(run.record, "reward").get("sha256")) for run in (before, after)]
    if rewards[0] != rewards[1]:
        return "their rewards differ"
    return ""


def _evaluations(runs: Sequence[Written], names: Sequence[str]) -> Section:
    rows = [
        [name, run.facts.state, f"{'–' if run.facts.step is None else run.facts.step}", *_levels(run.last)]
        for name, run in zip(names, runs, strict=True)
    ]
    header = ["", "state", "step", "J", "reward", "KL, nats", "length", "β", "evaluated"]
    said = "The last held-out evaluation of each, at T = 1. ±: 95 % interval over prompts. J has the β of its own run."
    body = table(header, rows) + elements.facts([(n, subject(run)) for n, run in zip(names, runs, strict=True)])
    return Section("Held-out prompts", [said], body=body)


def _levels(last: Evaluation | None) -> list[str]:
    if last is None:
        return ["–"] * 6
    alone = paired(last, last)
    if alone is None:
        return ["–"] * 4 + [f"{last.beta:.3g}", f"step {last.step}"]
    levels = [with_error(alone.after[key], digits) for key, digits in
              (("objective", 3), ("reward", 3), ("kl", 3), ("length", 1))]  # fmt: skip
    return [*levels, f"{last.beta:.3g}", f"step {last.step}"]


def _differences(runs: Sequence[Written], names: Sequence[str]) -> Section:
    """Each run against the first."""
    base, *others = runs
    parts = []
    for name, run in zip(names[1:], others, strict=True):
        why = comparable(base, run)
        comparison = None if why else paired(base.last, run.last)
        if comparison is None or run.last is None:
            parts.append(f"<p>{safe(f'{names[0]} and {name} are not paired: {why or _FEW}.')}</p>")
        else:
            parts.append(changes(comparison, run.last.beta, (names[0], name, "difference")))
    said = "The same held-out prompts, so differences are paired by prompt; both J have the β of the second. ±: 95 %."
    return Section(
        f"Against {names[0]}", [said] if any("<table" in part for part in parts) else [], body="\n".join(parts)
    )


def _curves(runs: Sequence[Written], names: Sequence[str]) -> Section | None:
    found = overlaid([(n, run.metrics, evaluated_prompts(run)) for n, run in zip(names, runs, strict=True)])
    longest = max(len(run.metrics) for run in runs)
    return (
        Section("Curves", ["Held-out points have 95 % intervals.", *averaged(longest)], body=grid(found))
        if found
        else None
    )


def _settings(runs: Sequence[Written], names: Sequence[str]) -> Section:
    flat = [dict(_flat({**run.config, **_ground(run.record)})) for run in runs]
    keys = [key for key in dict.fromkeys(key for one in flat for key in one) if key.split(".")[0] not in ASIDE]
    differing = [key for key in keys if len({one.get(key) for one in flat}) > 1]
    if not differing:
        return Section("Settings that differ", ["None."])
    rows = [[key, *(cut(one.get(key, "–")) for one in flat)] for key in differing]
    return Section("Settings that differ", body=table(["", *names], rows, words=True))


def _ground(record: Row) -> dict[str, Any]:
    return {"ran on": {key: record[key] for key in GROUND if key in record}}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and their values as text."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _inner(values: Row, key: str) -> Row:
    inner = values.get(key)
    return inner if isinstance(inner, Mapping) else {}
