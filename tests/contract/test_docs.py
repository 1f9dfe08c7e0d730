"""What the documents say works: commands compose, the example file composes, links lead to what they name."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path

import pytest

from rlhf_cli.config.jobs import compose_config, compose_for
from rlhf_cli.verbs import find_verb
from tests.scripts import load

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMAND = re.compile(
    r"^(?:    |\s*\$ )rlhf (train|sft|dpo|reward train)(?= |$)(.*?)(?: *&)?(?:  +\S.*)?$", re.MULTILINE
)
NOT_WHOLE = ("--help", "resume=", "...", "optimzer", "learning_rate")
"""Parts of commands that are shown for their refusal, stand for others, or compose a saved config."""


def commands() -> list[str]:
    """Every `rlhf train`, `sft`, `dpo` and `reward train` of the documents and of the help texts, without comments."""
    texts = [
        file.read_text(encoding="utf-8") for file in (*DOCUMENTS, ROOT / "configs" / "hydra" / "help" / "train.yaml")
    ]
    each = (re.sub(r"\\\n *", "", text).replace("&& rlhf", "\n    rlhf") for text in texts)
    found = {f"{verb} {rest.strip()}".strip() for text in each for verb, rest in COMMAND.findall(text)}
    return sorted(one for one in found if not any(word in one for word in NOT_WHOLE))


def test_there_are_commands() -> None:
    assert len(commands()) >= 60


@pytest.mark.parametrize("command", commands())
def test_every_command_composes(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verb = find_verb(command.split())
    assert verb is not None
    words = shlex.split(command.removeprefix(verb.words).partition("--compare-at")[0])
    monkeypatch.chdir(tmp_path)
    for name in ("my-run.yaml", "run.yaml"):
        (tmp_path / name).write_text(example())
    if "-m" in words:  # a point of the sweep
        words = [word.split(",")[0] for word in words if not ({"-m", "("} & {word, *word} or "seeds=" in word)]
        words = [word for word in words if not word.startswith("hydra")]
    assert compose_for(verb, words).steps > 0


def example() -> str:
    """The YAML of the README."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return str(block)


def test_the_example_file_says_what_it_does(tmp_path: Path) -> None:
    (tmp_path / "my-run.yaml").write_text(example())
    config = compose_config([f"config={tmp_path / 'my-run.yaml'}"])
    assert (config.steps, config.temperature.kind, config.optimizer.lr) == (100, "linear", 1e-4)
    assert config.data.path == str(tmp_path / "prompts.jsonl")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


def test_every_link_to_a_line_leads_to_what_it_names() -> None:
    """scripts/lint mends the numbers; a snippet that is gone has to be mended by hand."""
    links = load("pages/links.py")
    found = 0
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert links.mend_links(document) == text, f"{document.name}: scripts/lint mends it"
        found += len(links.LINK.findall(text))
    assert found > 20


def papers() -> list[str]:
    """The arguments of every paper that is a training run."""
    text = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    return [one for one in re.findall(r"`((?:[a-z_.]+=[^\s`]+ ?)+)`", text) if "algorithm=" in one or "kl=" in one]


@pytest.mark.parametrize("arguments", papers())
def test_the_arguments_of_every_paper_compose(arguments: str) -> None:
    assert compose_config(shlex.split(arguments)).steps > 0


def test_the_papers_are_there() -> None:
    assert len(papers()) >= 9


def test_the_readme_says_what_the_embedded_model_is_and_takes() -> None:
    licence = (ROOT / "README.md").read_text(encoding="utf-8").partition("Licence:")[2]
    assert "as a 4-bit file (Q4_1, 98 MB): its weights are those of\nthe file, not the original's" in licence
    assert "517 MB under `~/.cache/rlhf-cli`" in licence  # as float32, with the tokenizer


def test_the_pictures_of_the_dashboard_have_time_left_until_the_last_step() -> None:
    picture = (ROOT / "docs" / "dashboard.svg").read_text(encoding="utf-8")
    each = re.findall(r'<g class="(picture(?: last)?)" .*?>(.*?)</g>', picture)
    assert len(each) > 10
    assert [kind for kind, _ in each] == ["picture"] * (len(each) - 1) + ["picture last"]
    done = []
    for _, one in each:
        texts = html.unescape("".join(re.findall(r"<text[^>]*>([^<]*)</text>", one))).replace("\N{NO-BREAK SPACE}", " ")
        (step, steps), *_ = re.findall(r"step (\d+)/(\d+) ", texts)
        done.append((int(step), int(steps)))
        assert len(re.findall(r"now\s+low", texts)) == 1  # the curves have a scale
        left = re.findall(r"(\d+:\d\d)\sleft", texts)
        assert left == [] if step == steps else len(left) == 1 and left != ["0:00"]
    assert sorted(set(done)) == done
    assert done[-1] == (32, 32)  # what stands still is the end of the run
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (objective,) = re.findall(r"│ J = reward - 0.05·KL │ \S+ ± \S+ │ (\S+) ± ", readme)
    assert f"held-out after step 32: J +{objective} " in texts  # of the run that the README shows


def test_the_readme_has_the_results_of_their_page_and_its_transcript_is_one_of_them() -> None:
    readme, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/results.md"))
    rows = re.findall(r"^\| seed (\d) \|(.*)\|$", page, re.MULTILINE)
    cells = {seed: [cell.strip() for cell in row.split("|")] for seed, row in rows}
    expected = [
        f"| {seed} | {before} → {after} | {change} | {kl} | {of_objective} |"
        for seed, (before, after, change, kl, _, _, of_objective, *_) in cells.items()
    ]
    assert re.findall(r"^\| \d \|.*$", readme, re.MULTILINE) == expected
    assert len(expected) == 3
    reward = re.search(r"│ reward +│ (\S+) ± \S+ │ (\S+) ± \S+ │ (\S+) ± ", readme)
    kl = re.search(r"│ KL, nats +│ \S+ ± \S+ │ (\S+) ± (\S+) │ ", readme)
    assert reward is not None
    assert kl is not None
    before, after, change, of_kl, *_ = cells["0"]
    assert reward.groups() == (before, after, change.split()[0])
    assert " ± ".join(f"{float(figure):.2f}" for figure in kl.groups()) == of_kl
