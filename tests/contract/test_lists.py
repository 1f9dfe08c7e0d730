"""Lists of the documents that follow from the code are whole: they name all that there is, and nothing else."""

from __future__ import annotations

import ast
import os
import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

import rlhf_cli
from rlhf_cli import errors
from rlhf_cli.algorithms.placement import Placement
from rlhf_cli.cli import ROOM_OF
from rlhf_cli.commands.parts.chatting import COMMANDS
from rlhf_cli.display.labelling import KEYS
from rlhf_cli.health.rules import RULES
from rlhf_cli.health.stopping import Stop
from rlhf_cli.runs.folder import FILES, FOLDERS, MULTIRUN
from rlhf_cli.sweep.search import Search

PACKAGE = Path(rlhf_cli.__file__).parent
ROOT = Path(__file__).parents[2]
MEASURING = ("pipeline", "algorithms", "evaluation", "feedback", "ranks")
"""The rooms that write keys into metrics.jsonl."""
SHIPPED = {"data": {"writing", "tiny"}, "beta": {"constant"}}
"""Options that are no kind of their own."""


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(name: str, title: str) -> str:
    """A page from a heading to the next one."""
    return page(name).partition(f"# {title}\n")[2].partition("\n## ")[0]


def first_cells(table: str) -> list[str]:
    """The first cell of every row, without the head."""
    return [cell.strip("`") for cell in re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE)[1:]]


def options(group: str) -> set[str]:
    return {file.stem for file in (ROOT / "configs" / group).glob("*.yaml")} - SHIPPED.get(group, set())


@pytest.mark.parametrize(
    "codes",
    [
        section("docs/json.md", "Exit codes"),
        page("rlhf_cli/commands/planning/skill.md").partition("- Exit codes: ")[2].partition("\n- ")[0],
    ],
    ids=["json.md", "skill.md"],
)
def test_every_exit_code_has_a_meaning(codes: str) -> None:
    found = re.findall(r"(?:^|, )(\d+) ", " ".join(codes.split()))
    assert sorted(map(int, found)) == sorted(code for name, code in vars(errors).items() if name.startswith("EXIT_"))


def test_the_rules_of_the_doctor() -> None:
    assert sorted(first_cells(section("docs/doctor.md", "The rules"))) == sorted(RULES)


def test_what_ends_a_run_early() -> None:
    found = re.findall(r"`stop\.(\w+)", section("docs/doctor.md", "To end a run early"))
    assert {*found} == Stop.model_fields.keys()


def test_the_files_of_a_run() -> None:
    listed = section("docs/howto.md", "The files of a run")
    found = re.findall(r"(?:^ {6}|; )([.\w]+)(?:/ |/:|: | {2,})", listed, re.MULTILINE)
    assert sorted(found) == sorted({*FILES, *FOLDERS} - {MULTIRUN})


def test_the_keys_of_metrics() -> None:
    written = set()
    for file in (file for room in MEASURING for file in (PACKAGE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            keys = node.keys if isinstance(node, ast.Dict) else [node.slice] if isinstance(node, ast.Subscript) else []
            written |= {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    keys = {key for key in written if re.fullmatch(r"[a-z]+(/\w+)+", key) and not key.startswith("time/")}
    assert len(keys) > 40
    documents = "".join(page(f"docs/{name}.md") for name in ("how-it-works", "data", "feedback"))
    explained = {*re.findall(r"`([a-z]+(?:/\w+)+)`", documents)}
    assert {key for key in keys if key not in explained and key.removesuffix("_se") not in explained} == set()


@pytest.mark.parametrize("group", ["model", "data", "reward", "algorithm", "beta", "reference", "temperature"])
def test_the_options_of_a_group(group: str) -> None:
    (row,) = re.findall(rf"^\| `{group}` \| (.*) \|$", page("docs/yaml.md"), re.MULTILINE)
    assert options(group) - {*re.findall(r"`(\w+)`", row)} == set()


def test_the_placements_of_the_kl() -> None:
    (row,) = re.findall(r"^\| `kl` \| (.*) \|$", page("docs/yaml.md"), re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == list(get_args(Placement))


def test_every_reward_and_every_source_has_a_row() -> None:
    rewards, data = (page(f"docs/{name}.md").partition("\n\n    rlhf")[0] for name in ("rewards", "data"))
    assert {*first_cells(rewards.partition("###")[0])} == options("reward")
    assert {*first_cells(data)} == options("data")


def test_the_commands_of_a_chat() -> None:
    found = re.findall(
        r"`/(\w+)", "".join(first + "`" for first in re.findall(r"^\| (`/.*?) \|", page("docs/chat.md"), re.M))
    )
    assert found == list(COMMANDS)


def test_the_sections_of_a_runs_page() -> None:
    templates = PACKAGE / "report" / "templates"
    text = "".join((templates / f"{name}.html.j2").read_text(encoding="utf-8") for name in ("run", "again"))
    headings = [heading.partition(", after")[0] for heading in re.findall("<h2>(.*?)</h2>", text)]
    assert first_cells(page("docs/report.md")) == headings


def test_the_settings_of_a_search() -> None:
    told = re.findall(
        r"hydra\.sweeper\.(\w+)=(\w+)", section("docs/sweeps.md", "A search").partition("\n\nThe limits")[0]
    )
    values = yaml.safe_load(page("configs/hydra/sweeper/optuna.yaml"))
    assert {key for key, _ in told} == Search.model_fields.keys()
    shown = {key: yaml.safe_load(value) for key, value in reversed(told)}  # of several values the default comes first
    assert {**shown, "kl_budget": None, "params": None} == values


def test_the_keys_of_a_vote() -> None:
    assert f"\n{KEYS}\n" in page("docs/feedback.md")


def test_every_verb_is_in_a_document() -> None:
    documents = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "docs").rglob("*.md"))
    assert [verb for verb in ROOM_OF if not re.search(rf"rlhf {verb}\b", documents + page("README.md"))] == ["skill"]
    assert "`rlhf skill`" in page("CHANGELOG.md")


def test_the_readme_leads_to_every_page() -> None:
    pages = {f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")}
    assert pages - {*re.findall(r"\]\((docs/[\w-]+\.md)", page("README.md"))} == set()


def test_the_defaults_where_a_reward_fails() -> None:
    told = dict(re.findall(r"^ {4}(stop|mask|value) .* {3,}\((.*)\)$", page("docs/rewards.md"), re.MULTILINE))
    found: dict[str, list[str]] = {"stop": [], "mask": [], "value": []}
    for file in (ROOT / "configs" / "reward").glob("*.yaml"):
        for choice in re.findall(r"^on_error: (\w+)$", file.read_text(encoding="utf-8"), re.MULTILINE):
            found[choice].append(file.stem)
    assert told == {"stop": "most rewards", "mask": "judge", "value": "math: 0"}
    assert (found["mask"], found["value"], len(found["stop"])) == (["judge"], ["math"], 5)


def test_the_extras() -> None:
    extras = tomllib.loads(page("pyproject.toml"))["project"]["optional-dependencies"]
    (listed,) = re.findall(r"- Extras, as .*?: (.*?)\.\n", page("CHANGELOG.md"), re.DOTALL)
    assert {*re.findall(r"`(\w+)`", listed)} == extras.keys() - {"run", "test", "lint"}


def test_the_number_of_claims() -> None:
    claims = page("docs/claims.md")
    wholly, partly = (
        len(re.findall(r"\| \*\*holds\*\* \|$", claims, re.M)),
        len(re.findall(r"\*\*holds only if", claims)),
    )
    verdicts = f"{wholly} hold, {partly} hold only under a condition"
    assert f"- {wholly + partly} claims of papers, decided by enumeration: {verdicts}" in page("CHANGELOG.md")


def test_the_map_has_every_command_and_every_folder_of_scripts() -> None:
    there = [file for file in (ROOT / "scripts").iterdir() if not file.name.startswith(("_", "."))]
    listed = re.findall(r"^ {4}scripts/(\S+) ", page("CONTRIBUTING.md"), re.MULTILINE)
    assert sorted(listed) == sorted(file.name for file in there if file.is_file() and os.access(file, os.X_OK))
    (row,) = re.findall(r"^ {4}scripts/ +(.*)$", page("CONTRIBUTING.md"), re.MULTILINE)
    assert re.findall(r"(\w+)/", row) == sorted(file.name for file in there if file.is_dir())


RECIPES = [
    textwrap.dedent(block) for block in re.findall(r"^ +```python\n(.*?)^ +```", page("CONTRIBUTING.md"), re.M | re.S)
]


@pytest.fixture(params=["Brevity", "Fixed", "Quadratic", "Paragraphs"])
def recipe(request: pytest.FixtureRequest) -> type[Any]:
    """The class that a recipe writes down."""
    (block,) = [block for block in RECIPES if f"class {request.param}(" in block]
    names: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(block, "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    made: type[Any] = names[request.param]
    return made


def test_the_class_of_a_recipe_does_what_it_says(recipe: type[Any], tmp_path: Path) -> None:
    assert recipe.__abstractmethods__ == frozenset()
    if recipe.__name__ == "Brevity":
        assert recipe(kind="brevity", half=20).score([], ["one two"]) == [20 / 22]
    elif recipe.__name__ == "Fixed":
        fixed = recipe(kind="fixed", baseline=0.5)
        assert (fixed.baseline, fixed.epochs, fixed.min_completions) == (0.5, 1, 1)
    elif recipe.__name__ == "Quadratic":
        quadratic = recipe(kind="quadratic", start=0.1, end=0.02)
        assert [quadratic.at(step, 3) for step in range(3)] == pytest.approx([0.1, 0.08, 0.02])
    else:
        (tmp_path / "prompts.txt").write_text("One\ntwo.\n\n\n\nThree.\n")
        rows = [*recipe.model_construct().read(tmp_path / "prompts.txt", "p")]
        assert [(row.columns["prompt"], row.where) for row in rows] == [("One\ntwo.", "p:1"), ("Three.", "p:3")]


def test_every_recipe_is_tried() -> None:
    assert len(RECIPES) == 4
