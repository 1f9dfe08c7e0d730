"""The session of `rlhf chat`: commands that begin with a slash, and turns that the sides answer."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rlhf_cli.commands.parts.parser import temperature
from rlhf_cli.commands.parts.writing import Writer
from rlhf_cli.display.printing import print_json
from rlhf_cli.display.verbs.chat import Answer
from rlhf_cli.errors import UserError, disk_errors, visible
from rlhf_cli.paths import expand
from rlhf_cli.plural import plural
from rlhf_cli.prompts.conversation import Conversation
from rlhf_cli.runs.disk import replace_file
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptBatch

if TYPE_CHECKING:
    from torch import Tensor

COMMANDS: Final = {
    "temperature": ("X", "sample at this temperature; 0: greedy"),
    "system": ("[TEXT]", "another system prompt; without TEXT none"),
    "undo": ("", "take the last turn back"),
    "clear": ("", "forget all turns"),
    "save": ("FILE", "write your turns as prompts, for data=jsonl data.path=FILE"),
    "help": ("", "this list"),
    "quit": ("", "end; Ctrl-D as well"),
}
"""The commands, each with its argument and meaning."""


def parse_command(line: str) -> tuple[str, str] | None:
    """The command of a line and its argument; None where the line is a turn, which begins with // for one slash.

    Raises UserError for an unknown command, and where an argument is missing or too much.
    """
    if not line.startswith("/") or line.startswith("//"):
        return None
    name, _, argument = line[1:].partition(" ")
    argument = argument.strip()
    if name not in COMMANDS:
        begun = [command for command in COMMANDS if name and command.startswith(name)]
        near = begun or difflib.get_close_matches(name, COMMANDS, n=1)
        fix = f"/{near[0]}" if near else "/help lists the commands; // begins a turn with a slash"
        raise UserError(f"no command /{name}", fix=fix)
    takes, _ = COMMANDS[name]
    if bool(argument) != bool(takes) and takes != "[TEXT]":
        raise UserError(f"/{name} takes {takes or 'nothing'}", fix=f"/{name} {takes}".rstrip())
    return name, argument


def describe_commands() -> str:
    """List the commands, one a line."""
    return "\n".join(f"  /{f'{name} {takes}':<15}{meaning}" for name, (takes, meaning) in COMMANDS.items())


@dataclass(slots=True)
class Session:
    """A chat with a policy, and with its reference beside it."""

    writer: Writer
    sides: dict[str, Conversation]
    """The conversations, by the name of the model that answers: reference, policy."""
    temperature: float
    seed: int
    typed: bool
    """Whether a person types the turns: then Ctrl-C stops an answer, and a mistake does not end the chat."""
    as_json: bool = False
    """Whether each turn is printed as a JSON object, at its end."""
    asked: int = 0
    """The number of turns so far, with those taken back: each has its own random stream."""

    def run(self, lines: Iterable[str]) -> None:
        """Read the lines to their end or /quit; raises UserError for the mistake of a line that nobody typed."""
        for place, line in enumerate(lines, start=1):
            try:
                command = parse_command(line)
                if command is not None and command[0] == "quit":
                    return
                if command is not None:
                    self._obey(*command)
                elif line.strip():
                    self._ask(line.removeprefix("/") if line.startswith("//") else line)
            except UserError as error:
                if not self.typed:
                    error.where = error.where or f"line {place} of stdin"
                    raise
                _say(f"error: {error.line()}")
            except KeyboardInterrupt:  # before the answer began
                if not self.typed:
                    raise
                _say("stopped")

    def _obey(self, name: str, argument: str) -> None:
        match name:
            case "temperature":
                try:
                    self.temperature = temperature(argument)
                except argparse.ArgumentTypeError as error:
                    raise UserError(str(error), where="/temperature") from error
            case "help":
                _say(describe_commands())
            case "save":
                _save(self.sides["policy"], expand(argument))
            case "undo":
                last = self.sides["policy"].turns[-1:]
                _say(f"taken back: {last[0][0]}" if last else "there is no turn to take back")
                for side in self.sides.values():
                    del side.turns[-1:]
            case "clear":
                for side in self.sides.values():
                    side.turns.clear()
            case "system":
                for side in self.sides.values():
                    side.system = argument or None

    def _ask(self, text: str) -> None:
        """Let every side answer; a turn that is stopped before any token leaves no trace."""
        prompts = {name: self.writer.encode(side.ask(text), "/undo or /clear") for name, side in self.sides.items()}
        seeds = (seed_for(self.seed, "chat", self.asked),)
        self.asked += 1
        answers, stopped = dict[str, str](), False
        for name, prompt in prompts.items():
            answer = Answer(f"{name:<11}" if len(prompts) > 1 else "", is_shown=not self.as_json)
            try:
                answers[name] = self._answer(PromptBatch((prompt,), 1, seeds), answer, reference=name == "reference")
            except KeyboardInterrupt:
                if not self.typed:
                    raise
                answers[name], stopped = answer.text, True
                answer.end(answer.text)
        if self.as_json:
            print_json({"turn": text, "policy": answers["policy"], "reference": answers.get("reference")})
        if any(answers.values()) or not stopped:
            for name, conversation in self.sides.items():
                conversation.turns.append((text, answers[name]))

    def _answer(self, batch: PromptBatch, answer: Answer, *, reference: bool) -> str:
        from rlhf_cli.functional.sampling import Sampling

        def watch(tokens: Tensor) -> None:
            answer.grow(self.writer.policy.decode(tokens[0].tolist()))

        sampling = Sampling(self.writer.limit, self.temperature)
        rollout = self.writer.engine.sample(batch, sampling, lambda: None, reference=reference, watch=watch)
        answer.end(rollout.texts[0])
        return rollout.texts[0]


def _save(conversation: Conversation, file: Path) -> None:
    rows = list(conversation.rows())
    if not rows:
        raise UserError("no turn to save", where="/save")
    if os.path.lexists(file):
        raise UserError("there is such a file", where=str(file), fix="name another one")
    with disk_errors():
        replace_file(file, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
    _say(f"{plural(len(rows), 'prompt')} in {file}")


def _say(text: str) -> None:
    print(visible(text), file=sys.stderr)
