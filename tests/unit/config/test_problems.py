"""Mistakes: one line each that says what, where and what was meant; all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_cli.config.jobs import compose_config
from rlhf_cli.config.options import options
from rlhf_cli.errors import UserError

from .conftest import write

Refused = Callable[..., str]
TINY = "model: tiny\ndata: tiny\nreward: characters\n"
OPTIONS = {group: ", ".join(options(group)) for group in ("data", "model", "reward", "config")}
DATA, MODEL, REWARD = (f"{group} ({OPTIONS[group]})" for group in ("data", "model", "reward"))

ALGORITHMS = "dapo, dr_grpo, grpo, ppo, reinforce, rloo"
OF_HYDRA = (
    "hydra/env, hydra/help, hydra/hydra_help, hydra/hydra_logging, hydra/job_logging, hydra/launcher, hydra/output, "
    "hydra/sweeper"
)
BETAS = "adaptive, constant, cosine, linear, moderate, strong, target, weak"
ADD = "add for example `reward: sentiment`"


@pytest.mark.parametrize(
    "mistakes",
    [
        {
            "stpes=3": "unknown setting 'stpes'; did you mean steps?",
            "lr=3": "unknown setting 'lr'; did you mean optimizer.lr?",
            "optimiser.lr=0.1": "unknown setting 'optimiser'; did you mean optimizer?",
            "checkpoint.evry=3": "unknown setting 'checkpoint.evry'; did you mean checkpoint.every?",
            "zzz=1": "unknown setting 'zzz'; rlhf train --help lists the settings",
            "steps=0": "steps: must be at least 1 (got 0)",
            "optimizer.lr=2": "optimizer.lr: must be below 1 (got 2)",
            "optimizer.betas=[0.9]": "optimizer.betas.1: must be given (it has no default)",
            "model.lora.dora=1": "model.lora.dora: must be true or false (got 1)",
            "model.lora.target_modules=[]": (
                "model.lora.target_modules: must be one of auto or all-linear, or must have 1 or more entries (got [])"
            ),
            "beta=inf": "beta.value: must be finite (got inf)",
            "display=lively": "display: must be one of auto, live, plain, json or quiet (got 'lively')",
            "reward=characters": "",
            "data.where=x": "data.where: must be a mapping (got 'x')",
            "stop.floor=1": "stop.floor: must be a list (got 1)",
            "sinks=wandb": "sinks: must be a list, [wandb] (got 'wandb')",
            "reward.characters=a\udcff": "reward.characters: must be UTF-8 text (got 'a\\udcff')",
            "device=gpu": "device: must be auto, cpu, cuda or cuda:N; auto takes a GPU where there is one (got 'gpu')",
            "microbatch_size=big": "microbatch_size: must be auto, or a whole number (got 'big')",
        },
        {
            "steps=ten": "steps: must be a whole number (got 'ten')",
            "seed=": "seed: must be a whole number (got '')",
            "optimizer.lr=0": "optimizer.lr: must be above 0 (got 0)",
            "beta=-0.05": "beta.value: must be at least 0 (got -0.05)",
            "top_p=1.00000001": "top_p: must be at most 1 (got 1.00000001)",
            "data=jsonl": "data.path: must be given (training prompts): write data.path=...",
        },
        {
            "steps=???": "steps: must be given (steps of training; in `rlhf train` each begins with a rollout): "
            "write steps=...",
            "seed=1.5": "seed: must be a whole number (got 1.5)",
            "optimizer.lr=fast": "optimizer.lr: must be a number (got 'fast')",
            "beta=linear": "",
            "beta.value=1": "beta.value: beta is linear, which has no value; constant has it",
        },
    ],
)
def test_many_mistakes_on_a_command_line(refused: Refused, mistakes: dict[str, str]) -> None:
    """All are told at once, a line each, in plain words; an empty line stands for a word that is right."""
    expected = sorted(f"  {line}" for line in mistakes.values() if line)
    first, *lines = refused(*mistakes).splitlines()
    assert first == f"{len(expected)} problems in the configuration:"
    assert sorted(lines) == expected


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("steps.x=1", "steps: must be a whole number (got a mapping)"),
        (
            "beta=hihg",
            f"beta=hihg: no such option; have {BETAS}, or a number",
        ),
        (
            "beta=null",
            f"beta=null: no such option; have {BETAS}, or a number",
        ),
        (
            "beta=[0.1,0.2]",
            f"beta=[0.1, 0.2]: no such option; have {BETAS}, or a number",
        ),
        ("temperature=0", "temperature: must stay above 0: greedy decoding cannot explore, so it cannot train"),
        ("temperature=9e-4", "temperature: must stay at 0.001 or above (got 0.0009)"),
        (
            "algorithm=rlo",
            "algorithm=rlo: no such option; have dapo, dr_grpo, grpo, ppo, reinforce, rloo; did you mean rloo?",
        ),
        ("model=''", f"model='': no such option; have {OPTIONS['model']}"),
        ("model=", f"model='': no such option; have {OPTIONS['model']}"),
        ("config=''", f"config='': no such preset; have {OPTIONS['config']}"),
        ("algorithm.kind=''", "algorithm: has no kind ''; have reinforce, rloo, grpo, ppo"),
        ("algorithm.kind=rlo", "algorithm: has no kind rlo; have reinforce, rloo, grpo, ppo; did you mean rloo?"),
        ("model=5", f"model=5: no such option; have {OPTIONS['model']}"),
        ("config=tinny", f"config=tinny: no such preset; have {OPTIONS['config']}; did you mean tiny?"),
        ("config=near.yml", "config=near.yml: no such file; did you mean near.yaml?"),
        ("config=./near", "config=./near: no such file; did you mean near.yaml?"),
        ("config=near", f"config=near: no such preset; have {OPTIONS['config']}; did you mean near.yaml?"),
        (
            "samples_per_prompt=1",
            "samples_per_prompt: algorithm=rloo compares the completions of a prompt and needs at least 2 (got 1)",
        ),
        ("~steps", "steps: must be given (steps of training; in `rlhf train` each begins with a rollout)"),
        ("steps=1e3", "steps: must be a whole number (got 1000.0)"),
        ("evaluate=null", "evaluate: must be a mapping of settings (got null)"),
        ("reward.source.kind=length", "unknown setting 'reward.source'; did you mean reward.url?"),
        ("reward.source=length", "unknown setting 'reward.source'; did you mean reward.url?"),
        ("~model", f"nothing is chosen for {MODEL}; add for example `model: smollm2`"),
        ("steps=${sed}", "steps: Interpolation key 'sed' not found"),
        ("tiny", "tiny: not an override: write key=value; did you mean config=tiny?"),
        ("=5", "=5: not an override: write key=value"),
        ("a" * 300, f"{'a' * 300}: not an override: write key=value"),  # too long for the name of a run's folder
        ("a-b c=5", "a-b c=5: not an override: write key=value"),
        ("+steps=3", "Could not append to config. An item is already at 'steps'."),
        ("hydra/launcher=lsf", "hydra/launcher=lsf: no such option; have basic, joblib, processes, ray, slurm"),
        ("hydra/sweeper=optun", "hydra/sweeper=optun: no such option; have basic, optuna; did you mean optuna?"),
        ("hydra/laucher=ray", f"hydra/laucher: no such group; have {OF_HYDRA}; did you mean hydra/launcher?"),
        ("+beta@other=hihg", f"beta=hihg: no such option; have {BETAS}"),
        ("hydra.foo=1", "hydra.foo: Key 'foo' not in 'HydraConf'"),
        ("beta=0.1,0.2", "beta: several values are a sweep and need -m; text with a comma needs quotes"),
        (
            "-m beta=interval(0,1)",
            "beta=interval(0,1): an interval cannot be swept; list the values, separated by commas; "
            "fix: or search in it: hydra/sweeper=optuna",
        ),
        ("-m beta=0.1,0.1", "two jobs of the sweep would write to one folder: is a value listed twice?"),
        ("-m run_dir=x seed=1,2", "run_dir names the folder of one run; a sweep's is sweep_dir"),
        ("-m hydra.job.name=a,b", "hydra.job.name=a,b: hydra's own settings cannot be swept"),
        ("--cfg job -m", "--cfg shows the config of one run: leave -m out"),
        ("--cfg", "--cfg takes job or hydra or all"),
        ("--inffo", "unknown option --inffo; did you mean --info?"),
        ("--multi-run seed=1", "unknown option --multi-run; did you mean --multirun?"),
        ("--multirun=3", "--multirun takes no value"),
        ("--experimental-rerun=x.pkl", "unknown option --experimental-rerun"),
    ],
)
def test_mistakes_on_the_command_line(cwd: Path, refused: Refused, argv: str, line: str) -> None:
    write(cwd / "near.yaml", TINY)
    assert refused(*(argv.split(" ") if " " in argv and "a-b" not in argv else [argv])) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("steps: 5\n", f"r.yaml: nothing is chosen for {DATA}, {MODEL}, {REWARD}; {ADD}"),
        (
            "model: tiny\ndata: tiny\nreward:\n",
            f"r.yaml: nothing is chosen for {REWARD}; {ADD}",
        ),
        (
            "model: tiny\ndata: {path: x}\nreward: ???\n",
            f"r.yaml: nothing is chosen for {DATA}, {REWARD}; {ADD}",
        ),
        (
            "model: tiny\ndata: tiny\nreward: {kind: characterz}\n",
            f"r.yaml:3: reward=characterz: no such option; have {OPTIONS['reward']}; did you mean characters?",
        ),
        (
            "model: tiny\ndata: tiny\nreward: {kind: }\n",
            f"r.yaml:3: reward=null: no such option; have {OPTIONS['reward']}",
        ),
        ("model: ''\n", f"r.yaml:1: model='': no such option; have {OPTIONS['model']}"),
        (TINY + "1: 2\n", "r.yaml:4: not valid YAML: found a key that is no text; fix: put it in quotes"),
        (
            "model: tiny\n? [a, b]\n: 3\n",
            "r.yaml:2: not valid YAML: found a key that is no text; fix: put it in quotes",
        ),
        ("? {a: b}\n: 3\n", "r.yaml:1: not valid YAML: found a key that is no text; fix: put it in quotes"),
        ("hello", "r.yaml: must be a mapping of settings, like `steps: 100`"),
        ("defaults: [rewards: sentiment]\n", "r.yaml:1: defaults: no group rewards; did you mean reward?"),
        ("defaults: [[a]]\n", "r.yaml:1: defaults: write `- GROUP: OPTION`, `- PRESET` or `- FILE.yaml`, not ['a']"),
        (
            "steps: 1\ndefaults: [sentimnt]\n",
            f"r.yaml:2: config=sentimnt: no such preset; have {OPTIONS['config']}; did you mean sentiment?",
        ),
        ("defaults: [r.yaml]\n", "r.yaml: builds on r.yaml, which builds on it"),
        (
            "defaults: [t.yaml]\nbeta: {value: 1}\n",
            "t.yaml: builds on r.yaml, which builds on it",
        ),
        ("defaults: [s.yml]\n", "r.yaml:1: config=s.yml: no such file; did you mean s.yaml?"),
    ],
)
def test_mistakes_in_a_file(cwd: Path, refused: Refused, text: str, line: str) -> None:
    write(cwd / "r.yaml", text)
    write(cwd / "s.yaml", TINY)
    write(cwd / "t.yaml", "defaults: [r.yaml]\nbeta: {value: 2}\n")
    assert refused("config=r.yaml") == line


def test_many_mistakes_in_a_file(cwd: Path, refused: Refused) -> None:
    lines = (
        "model: tiny",
        "data: jsonl",
        "reward: characters",
        "stpes: 5",
        "evaluate:",
        "  # often",
        "  evry: 5",
        "beta: {kind: linear, start: x, value: 1}",
        "device: true",
        "config: tiny",
        "temperature: -0.1",
    )
    write(cwd / "r.yaml", "\n".join(lines))
    first, *others = refused("config=r.yaml").splitlines()
    assert first == "8 problems in the configuration:"
    assert sorted(others) == [
        "  r.yaml:10: unknown setting 'config'; a file names what it builds on by `defaults: [NAME]`",
        "  r.yaml:11: temperature.value: must be at least 0 (got -0.1)",
        "  r.yaml:2: data.path: must be given (training prompts): write data.path=...",
        "  r.yaml:4: unknown setting 'stpes'; did you mean steps?",
        "  r.yaml:7: unknown setting 'evaluate.evry'; did you mean evaluate.every?",
        "  r.yaml:8: beta.start: must be a number (got 'x')",
        "  r.yaml:8: beta.value: beta is linear, which has no value; constant has it",
        "  r.yaml:9: device: must be text (got true)",
    ]


def test_all_problems_are_told_at_once_each_with_its_place(cwd: Path, refused: Refused) -> None:
    write(cwd / "base.yaml", TINY + "steps: 0\nseed: -1\nthreads: 0\n")
    write(cwd / "sub/r.yaml", "defaults: [../base.yaml]\n\nsteps: -1\n")
    assert refused("config=sub/r.yaml", "seed=-2", "lr=1").splitlines() == [
        "4 problems in the configuration:",
        "  sub/r.yaml:3: steps: must be at least 1 (got -1)",
        "  seed: must be at least 0 (got -2)",
        "  base.yaml:6: threads: must be at least 1 (got 0)",
        "  unknown setting 'lr'; did you mean optimizer.lr?",
    ]


def test_the_base_that_wins_is_the_one_to_blame(cwd: Path, refused: Refused) -> None:
    write(cwd / "a.yaml", TINY + "steps: 1\n")
    write(cwd / "b.yaml", "steps: 0\n")
    write(cwd / "r.yaml", "defaults: [a.yaml, b.yaml]\n")
    assert refused("config=r.yaml") == "b.yaml:1: steps: must be at least 1 (got 0)"


def test_what_the_command_line_replaces_is_not_blamed_on_the_file(cwd: Path, refused: Refused) -> None:
    write(cwd / "r.yaml", TINY + "beta: {kind: linear, start: 1, end: 1}\n")
    assert refused("config=r.yaml", "beta=-1") == "beta.value: must be at least 0 (got -1)"


def test_a_file_elsewhere_is_named_in_full(tmp_path_factory: pytest.TempPathFactory, refused: Refused) -> None:
    file = write(tmp_path_factory.mktemp("else") / "r.yaml", "steps: [\n")
    assert refused(f"config={file}").startswith(f"{file}:2: not valid YAML")


def test_a_second_document_is_refused(cwd: Path, refused: Refused) -> None:
    write(cwd / "r.yaml", "steps: 3\n---\nsteps: 4\n")
    said = "r.yaml:2: not valid YAML: a second document, behind ---; fix: leave one of them"
    assert refused("config=r.yaml") == said


def test_the_ending_of_a_file_may_be_in_capitals(cwd: Path, refused: Refused) -> None:
    write(cwd / "R.YAML", "stpes: 3\n")
    assert "R.YAML:1: unknown setting 'stpes'" in refused("config=R.YAML")


def test_a_file_that_cannot_be_read(cwd: Path, refused: Refused) -> None:
    (cwd / "r.yaml").write_bytes("# für\nsteps: 3 # für\n".encode() + b"# f\xfcr\n")
    assert refused("config=r.yaml") == "r.yaml:3: not UTF-8 text; fix: save it as UTF-8"


_KEYS = st.sampled_from(
    [
        "steps",
        "beta",
        "beta.value",
        "data.path",
        "model",
        "config",
        "hydra",
        "hydra.run",
        "x",
        "~beta",
        "+a",
        "++b.c",
        "",
    ]
)
_VALUES = st.text("ab01.-e,:/~'\"\\$?{}[]() =", max_size=8)


@given(st.lists(st.tuples(_KEYS, st.sampled_from(["=", "", "=choice(", "==", "@x="]), _VALUES), min_size=1, max_size=2))
@settings(max_examples=8)  # a third of a second each
def test_whatever_is_typed_is_taken_or_refused_in_one_line(words: list[tuple[str, str, str]]) -> None:
    try:
        compose_config([word for parts in words if not (word := "".join(parts)).startswith("-")])
        line = ""
    except UserError as error:
        line = error.line()
    assert "\n" not in line or line.partition(" ")[2].startswith("problems in the configuration:\n")


@given(st.text("steps: beta{}[]-0\n\t&*!'\"#|>$?data", max_size=25))
def test_whatever_a_file_says_is_taken_or_refused(text: str) -> None:
    write(Path("r.yaml"), text)
    with pytest.raises(UserError):
        compose_config(["config=r.yaml"])
