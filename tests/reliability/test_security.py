"""What a stranger's YAML, model, adapter or run may not do: run code, read or keep a secret, follow a path, hang."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import pickle
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_cli.credentials import kind_of_secret
from rlhf_cli.errors import UserError
from rlhf_cli.models import chat as templates
from rlhf_cli.models import tiny as tiny_models
from rlhf_cli.models.policy import Policy
from rlhf_cli.runs.binding import write_config
from rlhf_cli.runs.checkpoint import MANIFEST
from rlhf_cli.types import PromptRow
from tests.support import QUICK, Outcome
from tests.unit.support import build, data_fields, pretrained, save_adapter, tiny

Rlhf = Callable[..., Outcome]
TINY = "model: tiny\ndata: tiny\nreward: characters\nsteps: 1\ndisplay: quiet\n"
CANARY = "canary"
"""What an attack that gets through leaves in the working directory."""
TOUCH = f"{{_target_: pathlib.Path.touch, self: {{_target_: pathlib.Path, _args_: [{CANARY}]}}}}"
LOG = f"{{version: 1, root: {{handlers: [x]}}, handlers: {{x: {{class: logging.FileHandler, filename: {CANARY}}}}}}}"
HUSH = "hush-hush-hush"

FILES = {
    "_target_ in a setting": f"x: {TOUCH}",
    "callbacks": f"hydra: {{callbacks: {{x: {TOUCH}}}}}",
    "oc.create": f"a: '{{_tar'\nb: 'get_: {CANARY}}}'\nx: '${{oc.create:${{a}}${{b}}}}'",
    "a python object": f"x: !!python/object/apply:os.system ['touch {CANARY}']",
    "an import by a path": "data: {kind: jsonl, path: 'package:trap.inner/x.jsonl'}",
    "a model's code": "model: {kind: pretrained, path: ./m, trust_remote_code: true}",
    "a model's code, in a group of one's own": "a: {trust_remote_code: true}\nmodel: ${a}",
    "a model's code, as a parameter": "hydra: {mode: MULTIRUN, sweeper: {params: {model.trust_remote_code: 'true'}}}",
    "a model's code, inside a parameter": "hydra: {sweeper: {params: {model: '{trust_remote_code: true}'}}}",
}
"""Ways through every layer; tests/unit/config/test_security.py tries all the others."""


@pytest.fixture
def attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module that must not be imported, and an environment with a secret."""
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap" / "__init__.py").write_text(f"open({str(tmp_path / CANARY)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HF_TOKEN", HUSH)
    return tmp_path


def refused(outcome: Outcome, *codes: int) -> None:
    """One line, the exit code, no canary, no secret."""
    assert outcome.code in codes, outcome.err
    assert outcome.err.startswith("error: "), outcome.err
    assert outcome.err.count("\n") == 1, outcome.err
    assert HUSH not in outcome.err + outcome.out
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("attack", FILES.values(), ids=FILES.keys())
def test_a_file_runs_nothing(attack: str, rlhf: Rlhf, attacked: Path) -> None:
    plain = [line for line in TINY.splitlines() if line.partition(":")[0] != attack.partition(":")[0]]
    (attacked / "r.yaml").write_text("\n".join([*plain, attack]) + "\n")
    before = sorted(attacked.rglob("*"))
    refused(rlhf("train", "config=r.yaml"), 2, 3)
    assert sorted(attacked.rglob("*")) == before
    (attacked / "link.yaml").symlink_to("r.yaml")
    (attacked / "on.yaml").write_text("defaults: [link.yaml]\n")
    refused(rlhf("train", "config=on.yaml"), 2, 3)


@pytest.mark.parametrize("attack", [name for name in FILES if name.startswith("a model's code")])
def test_a_file_that_trusts_a_models_code_is_told_where(attack: str, rlhf: Rlhf, attacked: Path) -> None:
    (attacked / "r.yaml").write_text(FILES[attack] + "\n")
    outcome = rlhf("train", "config=r.yaml")
    refused(outcome, 2)
    assert outcome.err.startswith("error: r.yaml:1: "), outcome.err
    assert "not allowed in a file, since it could run code" in outcome.err


@pytest.mark.parametrize(
    "override",
    [
        "+hydra.callbacks.x._target_=os.abort",
        f"+hydra.callbacks={{x: {TOUCH}}}",
        f"+hydra.job_logging={LOG}",
        "+hydra.job_logging.root.class=logging.FileHandler",
        f"+x={TOUCH}",
        "+run_dir=${oc.create:a}",
        "+run_dir=${oc.env:HF_TOKEN}",
        "hydra.sweeper._target_=os.abort",
        "model._target_=os.abort",
        "data.path=package:trap.inner/x.jsonl",
        "--config-dir=/tmp",
        "--experimental-rerun=x.pickle",
    ],
)
def test_a_pasted_command_runs_nothing(override: str, rlhf: Rlhf, attacked: Path) -> None:
    before = sorted(attacked.rglob("*"))
    refused(rlhf("train", "config=tiny", override), 2, 3)
    assert sorted(attacked.rglob("*")) == before


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of 2 steps; copied, not touched."""
    from rlhf_cli.cli import run

    folder = tmp_path_factory.mktemp("begun") / "run"
    few = ("steps=2", "checkpoint.every=1", "evaluate.every=0", f"run_dir={folder}")
    assert run(["train", *QUICK, *few]) == 0
    return folder


@pytest.fixture
def run_here(begun: Path, attacked: Path) -> Path:
    """A copy of the run, `out`, in the working directory."""
    return shutil.copytree(begun, attacked / "out")


@pytest.mark.parametrize(
    "change",
    [
        {"_target_": "os.abort"},
        {"reward": {"_target_": "os.abort"}},
        {"model": "${oc.env:HF_TOKEN}"},
        {"device": "${oc.env:HF_TOKEN}"},
        {"data": data_fields(path="${oc.env:HF_TOKEN}", too_long=9)},
        {"data": data_fields(path="package:trap.x/y", max_prompt_tokens="drop")},
        {"steps": "${oc.create:x}"},
        ["a", "list"],
        "text",
    ],
    ids=str,
)
def test_a_saved_config_is_data(change: dict[str, object], rlhf: Rlhf, run_here: Path) -> None:
    file = run_here / "config.json"
    changed = {**json.loads(file.read_text()), **change} if isinstance(change, dict) else change
    write_config(run_here, json.dumps(changed))  # as if it were the run's own
    refused(rlhf("train", "resume=out", "steps=3"), 2, 3, 5)
    refused(rlhf("generate", "out", "Hello"), 2, 3, 5)
    assert "step-00000003" not in os.listdir(run_here / "checkpoints")


def test_an_interpolation_in_a_saved_config_stays_text(rlhf: Rlhf, run_here: Path) -> None:
    file = run_here / "config.json"
    write_config(run_here, json.dumps(json.loads(file.read_text()) | {"run_dir": "${oc.env:HF_TOKEN}"}))
    assert rlhf("train", "resume=out", "steps=3").code == 0
    assert HUSH not in file.read_text()


class Bomb:
    """A pickle that leaves a canary when it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
        return os.system, (f"touch {self.canary}",)


PICKLES = ("optimizer.pt", "training_args.bin", "adapter_model.bin", "pytorch_model.bin", "rng_state.pth")


def plant(folder: Path, canary: Path) -> None:
    for name in PICKLES:
        (folder / name).write_bytes(pickle.dumps(Bomb(canary)))


def test_the_bomb_works(tmp_path: Path) -> None:
    """Else the tests below could not fail."""
    plant(tmp_path, tmp_path / CANARY)
    pickle.loads((tmp_path / PICKLES[0]).read_bytes())
    assert (tmp_path / CANARY).exists()


@pytest.mark.case(49)
def test_pickles_beside_a_checkpoint_are_not_read(rlhf: Rlhf, run_here: Path) -> None:
    for folder in (run_here, run_here / "adapter", *(run_here / "checkpoints").glob("step-*")):
        plant(folder, run_here.parent / CANARY)
    assert rlhf("train", "resume=out", "steps=3").code == 0
    assert rlhf("generate", "out", "Hello").code == 0
    assert not Path(CANARY).exists()


@pytest.mark.case(49)
@pytest.mark.parametrize("name", ["optimizer.safetensors", "adapter_model.safetensors", "state.json"])
def test_a_pickle_in_the_place_of_a_file_is_not_read(name: str, rlhf: Rlhf, run_here: Path) -> None:
    for folder in (run_here / "checkpoints").glob("step-*"):
        (folder / name).write_bytes(pickle.dumps(Bomb(run_here.parent / CANARY)))
    refused(rlhf("train", "resume=out", "steps=3"), 5)


@pytest.mark.case(49)
@pytest.mark.parametrize("weights", [True, False], ids=["beside safetensors", "instead of safetensors"])
def test_pickles_in_an_adapter_and_a_model_are_not_read(
    weights: bool, rlhf: Rlhf, attacked: Path, chat_model: Path
) -> None:
    here = attacked
    model = shutil.copytree(chat_model, here / "model")
    adapter = here / "sft"
    once = chat()
    adapter.mkdir()
    save_adapter(build(pretrained(model)), adapter)
    plant(adapter, here / CANARY)
    if weights:
        plant(model, here / CANARY)
        assert rlhf(*once, "model.adapter=sft", "run_dir=second").code == 0
    else:
        (adapter / "adapter_model.safetensors").unlink()
        refused(rlhf(*once, "model.adapter=sft", "run_dir=second"), 2)
        (model / "model.safetensors").unlink()
        plant(model, here / CANARY)
        refused(rlhf(*once, "run_dir=third"), 2)
    assert not Path(CANARY).exists()


@pytest.mark.case(49)
@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "..", ".", "", "a/../state.json", "link", "\0"])
def test_a_manifest_leads_nowhere_else(name: str, rlhf: Rlhf, run_here: Path) -> None:
    (run_here.parent / "secret").write_text(HUSH)
    for folder in (run_here / "checkpoints").glob("step-*"):
        (folder / "link").symlink_to(run_here.parent / "secret")
        (folder.parent / "secret").write_text(HUSH)
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"][name] = {"size": len(HUSH), "sha256": hashlib.sha256(HUSH.encode()).hexdigest()}
        (folder / MANIFEST).write_text(json.dumps(manifest))
    refused(rlhf("train", "resume=out", "steps=3"), 5)


@pytest.mark.case(49)
@pytest.mark.parametrize("what", ["a linked folder", "a linked manifest", "a pipe", "a deep manifest"])
def test_a_checkpoint_that_is_not_what_it_seems_is_passed_over(what: str, rlhf: Rlhf, run_here: Path) -> None:
    for folder in (run_here / "checkpoints").glob("step-*"):
        manifest = folder / MANIFEST
        if what == "a linked folder":
            folder.symlink_to(folder.rename(run_here / folder.name))
        elif what == "a linked manifest":
            manifest.symlink_to(manifest.rename(run_here / folder.name))
        elif what == "a pipe":
            manifest.unlink()
            os.mkfifo(manifest)
        else:
            manifest.write_text("[" * 100_000)
    refused(rlhf("train", "resume=out", "steps=3"), 5)


SECRETS = (
    "hf_" + "aB3" * 11,
    "sk-proj-" + "aB3" * 11,
    "sk-ant-api03-" + "aB3" * 11,
    "ghp_" + "aB3" * 12,
    "github_pat_" + "aB3" * 9,
    "glpat-" + "aB3" * 7,
    "AKIA" + "ABCD2345" * 2,
    "AIza" + "aB3-_" * 7,
    "xoxb-" + "123456789012-aB3",
    "https://me:pass@host/x",
    "-----BEGIN OPENSSH PRIVATE KEY-----",
)


@pytest.mark.case(48)
@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_secret_is_refused(
    secret: str, rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARMLESS", secret)
    (tmp_path / "value.yaml").write_text(f"{TINY}run_dir: 'runs {secret}'\n")
    (tmp_path / "comment.yaml").write_text(f"{TINY}# {secret}\n")
    (tmp_path / "base.yaml").write_text("defaults: [comment.yaml]\n")
    before = sorted(tmp_path.rglob("*"))
    composed = (("config=tiny", "resume_allow=['${oc.env:HARMLESS}']"), "resume_allow: ")  # takes as long as all others
    for arguments, where in (
        (("config=tiny", f"run_dir={secret}"), "run_dir: "),
        (("config=tiny", f"resume_allow=[beta,'{secret}']"), "resume_allow: "),
        (("config=tiny", secret), "an argument: "),
        (("config=tiny", f"--{secret}"), "an argument: "),
        (("config=tiny", "-m", f"run_dir=a,{secret}"), "run_dir: "),
        *([composed] if secret == SECRETS[0] else []),
        (("config=value.yaml",), "value.yaml:6: "),
        (("config=comment.yaml",), "comment.yaml:6: "),
        (("config=base.yaml",), "comment.yaml:6: "),
    ):
        outcome = rlhf("train", *arguments)
        assert outcome.code == 2, outcome.err
        assert outcome.err.startswith(f"error: {where}this looks like a"), outcome.err
        assert outcome.err.count("\n") == 1
        assert secret not in outcome.err + outcome.out
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.case(48)
def test_a_key_in_the_data_reaches_no_file(rlhf: Rlhf, tmp_path: Path) -> None:
    """`keep` shows that samples hold prompts: without the refusal the key would be in them."""
    rows = [f'{{"prompt": "Say {number}."}}\n' for number in range(24)]
    (tmp_path / "p.jsonl").write_text("".join([*rows, f'{{"prompt": "Say {SECRETS[0]}."}}\n']))
    few = ("data=jsonl", "data.path=p.jsonl", "steps=3", "prompts_per_step=8", "evaluate.every=0", "run_dir=out")
    outcome = rlhf("train", *QUICK, *few)
    assert outcome.code == 3
    assert outcome.err.startswith("error: the prompt holds what looks like a Hugging Face token")
    assert "(p.jsonl:25)" in outcome.err
    assert SECRETS[0] not in outcome.err + outcome.out
    assert os.listdir(tmp_path) == ["p.jsonl"]
    dropped = rlhf("train", *QUICK, *few, "data.secrets=drop")
    assert "note: data: 25 rows; 1 with a secret left out" in dropped.err
    written = [file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert len(written) > 10
    assert not any(SECRETS[0].encode() in content for content in written)
    assert rlhf("train", *QUICK, *few, "data.secrets=keep", "run_dir=kept", "log_samples=99").code == 0
    assert SECRETS[0] in (tmp_path / "kept" / "samples.jsonl").read_text()


@pytest.mark.parametrize(
    "harmless",
    ["sk-learn-experiment-no-12", "hf_internal-testing/tiny", "a" * 40, "http://host:80/a@b", "AKIAx"],
)
def test_what_does_not_is_not(harmless: str) -> None:
    assert kind_of_secret(harmless) is None


@pytest.mark.case(48)
def test_no_secret_of_the_environment_is_written(rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        name: f"{name.lower()}-{HUSH}"
        for name in ("HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "MY_PASSWORD")
    }
    for name, secret in secrets.items():
        monkeypatch.setenv(name, secret)
    (tmp_path / "r.yaml").write_text(f"{TINY}evaluate: {{prompts: 8}}\n")
    assert rlhf("train", *QUICK, "config=r.yaml", "run_dir=out").code == 0
    assert rlhf("train", "resume=out", "steps=7").code == 0
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 20
    for file in files:
        assert HUSH.encode() not in file.read_bytes(), file


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama with a chat template, as a transformers folder."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    model, tokenizer = tiny_models.build_tiny(tiny())
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chat(*more: str) -> tuple[str, ...]:
    """A run of one step with the model of the folder `model`."""
    few = ("steps=1", "samples_per_prompt=2", "evaluate.every=0", "max_new_tokens=4")
    few += ("model.lora.target_modules=all-linear",)
    return ("train", "config=tiny", "display=quiet", "model=pretrained", "model.path=./model", *few, *more)


LOOP = "{% for a in range(99999) %}"
TEMPLATES = {
    "hours of loops": (LOOP * 4 + "{% endfor %}" * 4, "takes more than 0.2 s"),
    "hours of arithmetic": ("{% set n = messages|length %}{{ (9 * n) ** (9 ** 9) }}", "takes more than 0.2 s"),
    "hours of arithmetic, folded": ("{{ 2 ** (10 ** 10) }}", "takes more than 0.2 s"),
    "10 GB": ("{{ messages[0].content * 10 ** 10 }}", "takes more than 512 MiB"),
    "10 GB, folded": ("{{ 'x' * 10 ** 10 }}", "takes more than 512 MiB"),
    "10 GB by a width": ("{{ '%10000000000d' % 1 }}", "takes more than 512 MiB"),
    "10 GB by a method": ("{{ 'x'.ljust(10 ** 10) }}", "takes more than 512 MiB"),
    "10 GB by doubling": (
        "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "takes more than 512 MiB",
    ),
    "100 MB": ("{% for a in range(10000) %}{{ 'x' * 10000 }}{% endfor %}", "makes 100,000,000 characters of it"),
    "one character too many": ("{{ 'x' * 1000001 }}", "makes 1,000,001 characters of it, more than 1,000,000"),
    "reaching out": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "refuses it: access to attribute '__class__'"),
    "reaching globals": ("{{ raise_exception.__globals__['os'] }}", "refuses it: "),
    "reaching by a filter": ("{{ (''|attr('__class__')).__mro__ }}", "refuses it: "),
    "opening a file": ("{% include '/etc/passwd' %}", "refuses it: "),
    "recursion": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "refuses it: maximum recursion depth exceeded"),
    "nesting": ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "refuses it: maximum recursion depth exceeded"),
    "an exception": ("{{ raise_exception('no\nthanks\x1b[2J') }}", "refuses it: no ("),
    "a long exception": ("{{ raise_exception('x' * 10000000) }}", f"refuses it: {'x' * 200} ("),
    "no text": ("{{ '\\ud800' }}", "writes half of a surrogate pair"),
    "no template": ("{% if %}", "refuses it: "),
}


@pytest.fixture(scope="module")
def policy() -> Policy:
    """A policy that wants a template; each test gives its tokenizer one."""
    return replace(build(tiny()), use_chat_template=True)


def hurry(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment for what would take hours; what needs memory gets its time, however busy the machine is."""
    monkeypatch.setattr(templates, "SECONDS", 0.2 if said.endswith("0.2 s") else 120.0)


@pytest.fixture
def untouched() -> Iterator[None]:
    """Afterwards alarm and limit are as they were, and there is memory again."""
    before = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    limit = resource.getrlimit(resource.RLIMIT_AS)
    yield
    assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)) == before
    assert resource.getrlimit(resource.RLIMIT_AS) == limit
    mmap.mmap(-1, 2**30).close()


@pytest.mark.case(50)
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("template", "said"), TEMPLATES.values(), ids=TEMPLATES.keys())
def test_a_hostile_template_is_one_line(
    template: str, said: str, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(said, monkeypatch)
    policy.tokenizer.chat_template = template
    with pytest.raises(UserError) as caught:
        policy.encode(PromptRow("x", {}, "p.jsonl:3"))
    line = caught.value.line()
    assert caught.value.exit_code == 3
    assert line.startswith(f"the model's chat template {said}"), line
    assert line.endswith("(p.jsonl:3); fix: change the prompt, or use raw text: model.prompt_format=raw")
    assert "\n" not in line
    hurry("", monkeypatch)
    policy.tokenizer.chat_template = "[{{ messages[0].content }}]"
    assert policy.encode(PromptRow("x", {}, "p.jsonl:4")).text == "[x]"


@pytest.mark.case(50)
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("name", ["hours of loops", "10 GB, folded", "100 MB", "an exception"])
def test_a_hostile_template_stops_a_run(
    name: str, rlhf: Rlhf, attacked: Path, chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, said = TEMPLATES[name]
    hurry(said, monkeypatch)
    shutil.copytree(chat_model, attacked / "model")
    (attacked / "model" / "chat_template.jinja").write_text(template)
    outcome = rlhf(*chat("run_dir=out"))
    refused(outcome, 3)
    assert outcome.err.startswith(f"error: the model's chat template {said}"), outcome.err
    assert "(tiny.jsonl:" in outcome.err


@pytest.mark.case(50)
def test_a_template_that_behaves_is_not_in_the_way(rlhf: Rlhf, attacked: Path, chat_model: Path) -> None:
    shutil.copytree(chat_model, attacked / "model")
    assert rlhf(*chat("run_dir=out")).code == 0


MODELLING = """
from pathlib import Path
from transformers import LlamaForCausalLM
class Custom(LlamaForCausalLM):
    def __init__(self, config):
        Path({canary!r}).touch()
        super().__init__(config)
"""


@pytest.fixture
def own_code(attacked: Path, chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose folder brings code that leaves a canary."""
    folder = shutil.copytree(chat_model, attacked / "model")
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoModelForCausalLM": "modeling_custom.Custom"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": auto}))
    (folder / "modeling_custom.py").write_text(MODELLING.format(canary=str(attacked / CANARY)))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(attacked / "modules"))
    return folder


def test_a_models_code_does_not_run(rlhf: Rlhf, own_code: Path) -> None:
    assert rlhf(*chat("run_dir=out")).code == 0
    assert not Path(CANARY).exists()


def test_a_models_code_runs_where_the_command_line_says_so_each_time(rlhf: Rlhf, own_code: Path) -> None:
    outcome = rlhf(*chat("run_dir=out", "model.trust_remote_code=true"))
    assert outcome.code == 0, outcome.err
    assert f"note: code of {own_code} (its newest; model.revision pins one) will run on this machine" in outcome.err
    assert Path(CANARY).exists()
    Path(CANARY).unlink()
    for argv, how in (
        (("train", "resume=out", "steps=2"), "model.trust_remote_code=true"),
        (("generate", "out", "Hello"), "--trust-remote-code"),
        (("verify-resume", "out"), "--trust-remote-code"),
    ):
        outcome = rlhf(*argv)
        refused(outcome, 5)
        assert f"code that came with {own_code} would run" in outcome.err
        assert outcome.err.endswith(f"fix: if you trust it, add {how}\n")
    refused(rlhf(*chat("run_dir=out", "resume=auto", "steps=2")), 5)
    for argv in (("generate", "out", "Hello"), ("verify-resume", "out")):
        outcome = rlhf(*argv, "--trust-remote-code")
        assert outcome.code == 0, outcome.err
        assert f"note: code of {own_code} (its newest; model.revision pins one) will run" in outcome.err
        assert Path(CANARY).exists()
        Path(CANARY).unlink()
    assert rlhf("train", "resume=out", "steps=2", "model.trust_remote_code=true").code == 0
    assert Path(CANARY).exists()


@pytest.mark.parametrize("name", [".env", "{home}/.env", "../../../../../../../../../../etc/hostname"])
def test_a_tokenizer_reads_nothing_outside_its_model(name: str, rlhf: Rlhf, attacked: Path, chat_model: Path) -> None:
    folder = shutil.copytree(chat_model, attacked / "model")
    (attacked / ".env").write_text(HUSH)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    key = {"tokenizer_file": name.format(home=attacked)}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | key))
    outcome = rlhf(*chat("run_dir=out"))
    refused(outcome, 2)
    assert "its tokenizer_config.json would have tokenizer_file read from" in outcome.err


def test_a_tokenizers_stale_paths_do_no_harm(rlhf: Rlhf, attacked: Path, chat_model: Path) -> None:
    folder = shutil.copytree(chat_model, attacked / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    stale = {"special_tokens_map_file": "/home/nobody/.cache/special_tokens_map.json"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | stale))
    assert rlhf(*chat("run_dir=out")).code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "XLORA", "adapters": {"0": "nobody/bad"}}, "is not of a LoRA adapter"),
        ({"megatron_config": {"x": 1}, "megatron_core": "trap"}, "wants megatron_core, a module of its own choice"),
    ],
)
def test_an_adapter_imports_nothing(
    change: dict[str, object], said: str, rlhf: Rlhf, run_here: Path, chat_model: Path
) -> None:
    """A module that adapter_config.json names, or other adapters."""
    shutil.copytree(chat_model, run_here.parent / "model")
    file = run_here / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    outcome = rlhf(*chat("run_dir=new", "model.adapter=out/adapter"))
    refused(outcome, 2)
    assert f"does not fit the model: adapter_config.json {said} (model.adapter)" in outcome.err
