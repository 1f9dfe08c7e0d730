"""Every setting has one home for its type, one for its value, and somebody who reads it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlhf_cli
from rlhf_cli.rewards.kinds.base import IsolatedSource
from rlhf_cli.schema import RunConfig
from rlhf_cli.settings import Settings
from rlhf_cli.supervised.settings import SupervisedConfig
from rlhf_cli.sweep.launchers import Launcher

READ_BY_A_VALIDATOR = {"insecure": "it only says which urls are allowed", "patience": "the loop comes"}
"""Settings that nothing else reads, and why that is enough."""
NEWER_THAN_RUNS = {
    "AnswerSource.extract",
    "Csv.secrets",
    "FileSource.secrets",
    "Hub.secrets",
    "Jsonl.secrets",
    "Labelled.secrets",
    "ExactMatch.extract",
    "Evaluate.human",
    "Evaluate.human_against",
    "Math.extract",
    "Parquet.secrets",
    "Ppo.shared_trunk",
    "Pretrained.stop",
    "PromptSource.secrets",
    "Reward.special_tokens",
    "RunConfig.invariant",
    "RunConfig.max_rollouts",
    "RunConfig.on_alarm",
    "RunConfig.on_no_signal",
    "RunConfig.processes",
    "RunConfig.prompts",
    "RunConfig.reference",
    "RunConfig.reuse_forward",
    "RunConfig.shard_model",
    "RunConfig.shards",
    "RunConfig.stop",
    "Stop.floor",
    "Stop.floor_beta",
    "Stop.kl",
    "Stop.plateau",
    "Stop.seconds",
    "Stop.tokens",
    "SupervisedConfig.processes",
    "SupervisedConfig.shards",
    "Text.secrets",
    "Tiny.stop",
    "TrainingConfig.processes",
    "TrainingConfig.shards",
}
"""Settings that runs were saved without: these resume with the default, and new runs take the value in YAML."""


def kinds(base: type[Settings] = Settings) -> Iterator[type[Settings]]:
    """Every group of settings: the schema imports all of them. Those that a test defines are none of ours."""
    for kind in base.__subclasses__():
        if kind.__module__.startswith(f"{rlhf_cli.__name__}."):
            yield kind
        yield from kinds(kind)


class Reads(ast.NodeVisitor):
    """What code reads of settings, by name; what a validator reads does not count."""

    def __init__(self) -> None:
        self.attributes: set[str] = set()
        self.own: dict[str, set[str]] = {}
        """The attributes of `self`, by the name of the class."""
        self.parameters: set[str] = set()
        """Parameters that their function reads."""
        self._class = ""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer, self._class = self._class, node.name
        self.generic_visit(node)
        self._class = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if any("validator" in ast.unparse(decorator) for decorator in node.decorator_list):
            return
        names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        self.parameters |= names & {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load):
            own = isinstance(node.value, ast.Name) and node.value.id == "self"
            (self.own.setdefault(self._class, set()) if own else self.attributes).add(node.attr)
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg == "include":  # of model_dump
            self.attributes |= {name.value for name in ast.walk(node.value) if isinstance(name, ast.Constant)}
        self.generic_visit(node)

    def read(self, kind: type[Settings], field: str) -> bool:
        """Whether anything reads the field: the group, one that inherits it or that it inherits from, or another.

        A source in a process of its own gets its settings as parameters, and a launcher's library gets them whole.
        """
        family = {*kind.__mro__, *kinds(kind)}
        return (
            field in self.attributes
            or any(field in self.own.get(member.__name__, ()) for member in family)
            or (issubclass(kind, IsolatedSource) and field in self.parameters)
            or issubclass(kind, Launcher)
        )


@pytest.fixture(scope="module")
def reads() -> Reads:
    """What the whole package reads."""
    reads = Reads()
    for file in Path(rlhf_cli.__file__).parent.rglob("*.py"):
        reads.visit(ast.parse(file.read_text(encoding="utf-8")))
    return reads


def test_every_setting_is_read(reads: Reads) -> None:
    """A knob that nothing reads is a lie."""
    unread = {
        f"{kind.__name__}.{field}"
        for kind in kinds()
        for field in kind.model_fields
        if not (reads.read(kind, field) or field in READ_BY_A_VALIDATOR)
    }
    assert not unread


def test_a_setting_that_nothing_reads_is_noticed(reads: Reads) -> None:
    """It is one that only its own validator reads, or that other classes have under the same name."""

    class Knob(RunConfig):
        frobnication: int

    assert not reads.read(Knob, "frobnication")
    planted = Reads()
    planted.visit(
        ast.parse(
            "class Knob:\n"
            "    frobnication: int\n"
            "    @model_validator(mode='after')\n"
            "    def _check(self): return self.frobnication\n"
            "class Other:\n"
            "    def __init__(self): self.frobnication = 1\n"
            "    def turn(self): return self.frobnication\n"
        )
    )
    assert not planted.read(Knob, "frobnication")
    planted.visit(ast.parse("def turn(config): return config.frobnication"))
    assert planted.read(Knob, "frobnication")


def test_no_value_has_a_default_in_python() -> None:
    """Types live in Python, values in YAML: a value has one home."""
    every = {RunConfig, SupervisedConfig, *kinds()}
    with_default = {
        f"{kind.__name__}.{name}"
        for kind in every
        for name, field in kind.model_fields.items()
        if not field.is_required()
    }
    assert with_default == NEWER_THAN_RUNS
    assert len(every) > 8
