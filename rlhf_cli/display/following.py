"""The commands that may follow a run or a sweep, each in one line that can be copied."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import Final

from rich.console import Console

from rlhf_cli.display.words import flat
from rlhf_cli.errors import visible
from rlhf_cli.paths import PACKAGE, quoted
from rlhf_cli.report.run_page import command_to_repeat
from rlhf_cli.runs.binding import PARENT
from rlhf_cli.runs.folder import CONFIG, RECORD
from rlhf_cli.runs.json_files import read_object
from rlhf_cli.runs.kind import SUPERVISED
from rlhf_cli.runs.result import Result
from rlhf_cli.supervised.result import SupervisedResult
from rlhf_cli.sweep.answer import Answer

LONGEST: Final = 60
"""Characters of the longest prompt that a command repeats."""
PROMPT: Final = "Describe a long queue in one sentence."


def print_next(console: Console, commands: Sequence[str]) -> None:
    """Print the commands, behind the one that lets the shell find `rlhf`; a narrow terminal breaks none of them."""
    console.print("Next", style="bold")
    activate = Path(sys.executable).with_name("activate")
    if which("rlhf") is None and activate.is_file():  # scripts/train runs it from a .venv that no shell has activated
        commands = [f"source {quoted(activate)}", *commands]
    for command in commands:
        console.print(f"  {visible(command)}", soft_wrap=True)


def after_run(result: Result, folder: Path) -> list[str]:
    """Return commands that ask the policy, train on, and vary the run with its own settings."""
    place = quoted(folder)
    return [
        f"rlhf generate {place} --reference {shlex.quote(_prompt(result))}",
        f"rlhf train resume={place} {f'{result.stopped.key}=null' if result.stopped else f'steps={2 * result.step}'}",
        *_variation(folder),
    ]


def after_losses(result: SupervisedResult, folder: Path) -> list[str]:
    """Return commands that try the model, train the policy on or from it, and train further."""
    place = quoted(folder)
    further = f"rlhf {SUPERVISED[result.task]} resume={place} steps={2 * result.step}"
    if result.task == "bradley_terry":
        return [*(f"rlhf {verb} reward=model reward.path={place}" for verb in ("reward test", "train")), further]
    model, on = read_object(folder / CONFIG).get("model"), list[str]()
    if isinstance(model, dict) and (path := model.get("path")):  # a tiny model takes no adapter
        is_own = str(path).startswith(PACKAGE)
        chosen = "" if is_own else f"model=pretrained model.path={shlex.quote(str(path))} "
        on = [f"rlhf train {chosen}model.adapter={place}"]
    return [f"rlhf generate {place} --reference {shlex.quote(PROMPT)}", *on, further]


def after_sweep(answer: Answer) -> list[str]:
    """Return commands that ask the recommended policy, train it on, and repeat every point with more seeds."""
    commands = []
    chosen = answer.point(answer.recommended)
    if chosen is not None and chosen.finished:
        folder = Path(answer.folder) / chosen.finished[0].name
        result = Result.read(folder)
        commands += after_run(result, folder)[:2] if result else []
    is_search = "hydra/sweeper=" in answer.command  # its reason has the command that repeats what it found
    if answer.command and not is_search and " seeds=" not in answer.command and " seed=" not in answer.command:
        commands.append(f"{answer.command} seeds=3")
    return commands


def _prompt(result: Result) -> str:
    """A prompt that the run answered, if it is short."""
    short = (row.prompt for row in result.texts if len(row.prompt) <= LONGEST and flat(row.prompt) == row.prompt)
    return next(short, PROMPT)


def _variation(folder: Path) -> list[str]:
    """The run's own command as a sweep, over beta if that is a number, or else over seeds, which a fork keeps."""
    config, record = read_object(folder / CONFIG), read_object(folder / RECORD)
    beta = config.get("beta")
    value = beta.get("value") if isinstance(beta, dict) and beta.get("kind") == "constant" else None
    if isinstance(value, float) and value > 0:
        key, varied = "beta", f"beta={value / 2:g},{value:g},{value * 2:g}"
    elif PARENT in record:
        return []
    else:
        key, varied = "seed", "seeds=3"
    command = command_to_repeat(record, "train", (key,))
    return [f"{command} -m {varied}"] if command else []
