"""Print what is wrong with a run or with the trials of a sweep, and the facts of a machine."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.errors import visible
from rlhf_cli.health.alarms import Alarms, Finding
from rlhf_cli.health.course import START, WINDOW
from rlhf_cli.health.rules import RULES, about
from rlhf_cli.paths import relative_to_here
from rlhf_cli.plural import plural


def show_run(alarms: Alarms) -> None:
    """Print every finding: when, which rule and what it means, the evidence, the override to try."""
    console = ResultConsole()
    for text in _lines(alarms):
        _print(console, text)


def show_sweep(trials: Mapping[Path, Alarms]) -> None:
    """Print the findings of every trial; trials without one share a line."""
    console, healthy = ResultConsole(), []
    for folder, alarms in trials.items():
        if not alarms.findings():
            healthy.append(folder)
            continue
        console.print(visible(str(relative_to_here(folder))), style="bold", soft_wrap=True)
        for text in _lines(alarms):
            _print(console, f"  {text}")
    if not trials:
        console.print("no trial has begun")
    if healthy:
        names = ", ".join(folder.name for folder in healthy)
        console.print(visible(f"nothing found in {len(healthy)}: {names}"), soft_wrap=True)


def show_machine(facts: Mapping[str, Any]) -> None:
    """Print a line a fact."""
    disk, threads, memory, cache = facts["disk"], facts["threads"], facts["memory"], facts["disk"]["cache"]
    by_variable = f" (OMP_NUM_THREADS={threads['OMP_NUM_THREADS']})" if threads["OMP_NUM_THREADS"] else ""
    gpus = ", ".join(f"{gpu['name']} with {gpu['total_gib']} GiB" for gpu in facts["gpus"])
    cuda = f" (CUDA {facts['cuda']})" if facts["cuda"] else ""
    rows = {
        "python": f"{facts['python']} on {facts['platform']}",
        "processor": f"{facts['processor']}, {facts['cores']} cores, torch uses {threads['torch']}{by_variable}",
        "gpu": f"{gpus or 'none'}{cuda}",
        "memory": f"{memory['total_gib']} GiB, {memory['available_gib']} free",
        "disk": f"{disk['here']['free_gib']} GiB free in {disk['here']['folder']}",
        "cache": cache if isinstance(cache, str) else f"{cache['free_gib']} GiB free in {cache['folder']}",
        "hub": facts["hub"],
        "packages": ", ".join(f"{name} {version}" for name, version in facts["packages"].items()),
    }
    console = ResultConsole()
    for name, text in rows.items():
        console.print_fact(name, visible(text))


def _print(console: ResultConsole, text: str) -> None:
    """Print a line; where a terminal breaks it, all of it is indented as its beginning is."""
    words = text.lstrip()
    console.print_fact("", visible(words), len(text) - len(words))


def _lines(alarms: Alarms) -> Iterator[str]:
    findings = alarms.findings()
    for finding in findings:
        yield f"{finding.rule}: {about(finding.rule)}"
        yield f"  {_when(finding)}: {finding.evidence}"
        yield f"  try {finding.override}"
    if not findings:
        steps = alarms.course.learned
        few = f": few rules can tell before step {START + WINDOW}" if steps < START + WINDOW else ""
        yield f"nothing found by {len(RULES)} rules in {plural(steps, 'step')}{few}"


def _when(finding: Finding) -> str:
    if finding.until is None:
        return f"since step {finding.step}"
    return f"step {finding.step}" + (f" to {finding.until}" if finding.until > finding.step else "")
