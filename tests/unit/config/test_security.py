"""What a stranger's YAML may not do: run code, or copy a secret to disk."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlhf_cli.config.compose import amend
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.config.launch import Launch
from rlhf_cli.config.security import guard_environment
from rlhf_cli.credentials import kind_of_secret
from rlhf_cli.errors import UserError

from .conftest import write

Refused = Callable[..., str]
TINY = "model: tiny\ndata: tiny\nreward: characters\n"
RUN = "{_target_: subprocess.run, args: [touch, MARKER]}"
LOG = "{version: 1, root: {handlers: [x]}, handlers: {x: {class: logging.FileHandler, filename: MARKER}}}"

ATTACKS = {
    "target": f"x: {RUN}",
    "target in a group": f"reward: {RUN}",
    "target in a list": f"resume_allow: [{RUN}]",
    "target over an option": f"model: {{kind: tiny, lora: {RUN}}}",
    "call": "x: {(): subprocess.run, args: [touch, MARKER]}",
    "class": "x: {class: subprocess.Popen}",
    "callback": f"hydra: {{callbacks: {{x: {RUN}}}}}",
    "callback without target": "hydra: {callbacks: {x: {path: MARKER}}}",
    "job logging": f"hydra: {{job_logging: {LOG}}}",
    "hydra logging": f"hydra: {{hydra_logging: {LOG}}}",
    "launcher": f"hydra: {{mode: MULTIRUN, launcher: {RUN}}}",
    "sweeper": f"hydra: {{mode: MULTIRUN, sweeper: {RUN}}}",
    "sweeper, other keys": "hydra: {sweeper: {max_batch_size: 1}}",
    "searchpath": "hydra: {searchpath: [file:///tmp]}",
    "output": "hydra: {output_subdir: ../../x}",
    "chdir": "hydra: {job: {chdir: true}}",
    "environment": "hydra: {job: {env_set: {LD_PRELOAD: MARKER}}}",
    "environment copied": "hydra: {job: {env_copy: [HF_TOKEN]}}",
    "parameter of the sweeper": "hydra: {mode: MULTIRUN, sweeper: {params: {+hydra.callbacks.x._target_: os.abort}}}",
    "logging by the sweeper": f"hydra: {{mode: MULTIRUN, sweeper: {{params: {{hydra.job_logging: '{LOG}'}}}}}}",
    "defaults of callbacks": "defaults: [override hydra/callbacks: x]",
    "defaults of logging": "defaults: [/hydra/job_logging: stdout]",
    "defaults of a launcher": "defaults: [{hydra/launcher: joblib}]",
    "defaults elsewhere": "defaults: [{model@hydra.callbacks.x: tiny}]",
    "defaults inside a group": "model: {kind: tiny, defaults: [/hydra/job_logging: stdout]}",
    "disguised as text": "a: '{_target_: subprocess.run}'\nhydra: {mode: MULTIRUN, launcher: '${oc.create:${a}}'}",
    "made by oc.create": "a: '{_tar'\nb: 'get_: x}'\nx: '${ oc.create:${a}${b}}'",
    "made by oc.decode": "x: '${oc.decode:a}'",
    "interpolated launcher": "a: {b: c}\nhydra: {mode: MULTIRUN, launcher: '${a}'}",
    "interpolated sweeper": "hydra: {sweeper: {params: '${a}'}}",
    "interpolated hydra": "hydra: ${x}",
    "hydra by a list": "hydra: [callbacks]",
    "a python object": "x: !!python/object/apply:subprocess.run [[touch, MARKER]]",
    "a recursive node": "x: &x [*x]",
    "a secret": "resume: ${oc.env:HF_TOKEN}",
    "a secret, any case": "resume: ${oc.env:my_Api_kEy,x}",
    "a secret, by parts": "resume: a${oc.env:${resume_allow.0}${display}}\nresume_allow: [PASS]\ndisplay: WORD",
    "a secret in the folder": "hydra: {run: {dir: 'x/${oc.env:A_SECRET}'}}",
    "a secret in the sweep's folder": "hydra: {mode: MULTIRUN, sweep: {dir: '${oc.env:A_SECRET}'}}",
    "a secret in a trial's folder": "hydra: {mode: MULTIRUN, sweep: {subdir: '${oc.env:A_SECRET}'}}",
}
UNREADABLE = {
    "a resolver of its own": ("run_dir: '${shell:touch MARKER}'", "Unsupported interpolation type shell"),
    "a resolver of hydra's": ("run_dir: '${hydra:runtime.cwd,x}'", "r.yaml:4: run_dir: "),
    "a file that is no config": ("defaults: [/etc/passwd]", "/etc/passwd: must be a mapping of settings"),
    "a python module": ("x: !!python/module:antigravity", "could not determine a constructor"),
    "aliases of aliases": (
        "\n".join([f"a0: &a0 {['x'] * 9}", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]),
        "its aliases",
    ),
    "merged aliases": (
        "\n".join(
            ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12))]
        ),
        "its aliases",
    ),
    "deeper than python goes": (f"x: {'[' * 5000}{']' * 5000}", "maximum recursion depth exceeded"),
    "a number of 9000 digits": (f"steps: {'9' * 9000}", "the value is no int: a number of 9,000 digits"),
}
"""And what each is refused for."""


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "my_Api_kEy", "PASSWORD", "A_SECRET"):
        monkeypatch.setenv(name, "hush")


@pytest.mark.parametrize(("text", "said"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_no_config_needs_is_refused(cwd: Path, refused: Refused, text: str, said: str) -> None:
    write(cwd / "r.yaml", f"{TINY}{text.replace('MARKER', str(cwd / 'marker'))}\n")
    line = refused("config=r.yaml")
    assert said in line
    assert "\n" not in line
    assert not (cwd / "marker").exists()


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_attacks_are_refused_and_run_nothing(cwd: Path, refused: Refused, attack: str) -> None:
    marker = cwd / "marker"
    write(
        cwd / "r.yaml",
        "\n".join([line for line in TINY.splitlines() if line[:5] != attack[:5]])
        + "\n"
        + attack.replace("MARKER", str(marker)),
    )
    line = refused("config=r.yaml")
    assert re.search(r"not allowed|defaults: no group|not valid YAML: could not determine a constr|its aliases", line)
    assert "hush" not in line
    assert "\n" not in line
    assert not marker.exists()


@pytest.mark.parametrize("attack", [f"hydra: {{callbacks: {{x: {RUN}}}}}", f"x: {RUN}"])
def test_a_file_to_build_on_is_read_as_carefully(cwd: Path, refused: Refused, attack: str) -> None:
    write(cwd / "stranger.yaml", TINY + attack)
    write(cwd / "r.yaml", "defaults: [stranger.yaml]")
    assert refused("config=r.yaml").startswith("stranger.yaml:4: ")
    assert refused("-m", "config=r.yaml", "seed=1,2").startswith("stranger.yaml:4: ")


def test_the_refusal_says_what_and_where(cwd: Path, refused: Refused) -> None:
    write(cwd / "r.yaml", TINY + "hydra:\n  callbacks:\n    x: 1\n")
    assert refused("config=r.yaml") == "r.yaml:5: hydra.callbacks: not allowed in a file, since it could run code"


OF_THE_SYSTEM = (
    "/proc/self/environ",
    "/sys/kernel/notes",
    "/dev/zero",
    "/run/secrets/token",
    "/proc/self/../self/maps",
)


@pytest.fixture
def system_files(cwd: Path) -> None:
    """Links to what the system holds, and a pipe."""
    (cwd / "linked.txt").symlink_to("/proc/self/environ")
    (cwd / "folder").symlink_to("/proc/self")
    os.mkfifo(cwd / "fifo")


NOT_READ = r"[\w.]+: \S+ is not read: (/\w+(/secrets)? belongs to the system|neither a file)"


@pytest.mark.case(78)
@pytest.mark.usefixtures("system_files")
@pytest.mark.parametrize("path", [*OF_THE_SYSTEM, "linked.txt", "folder/environ", "/proc/*/environ", "fifo"])
def test_nothing_of_the_system_is_read(saved_paths: dict[str, Any], path: str) -> None:
    for key in ("data.path", "data.eval_path", "model.path", "reward.path", "run_dir"):
        is_model = key in ("model.path", "reward.path") and path[0] != "/"
        with pytest.raises(UserError, match=f"^{NOT_READ}"):
            amend(saved_paths, [f"{key}={'./' if is_model else ''}{path}"])


@pytest.mark.usefixtures("system_files")
def test_an_override_names_no_file_of_the_system(refused: Refused) -> None:
    assert re.match(NOT_READ, refused("config=tiny", "data=text", "data.path=linked.txt"))


@pytest.mark.usefixtures("system_files")
@pytest.mark.parametrize(
    "settings",
    [
        "model: tiny\nreward: characters\ndata:\n  kind: text\n  path: {path}\n",
        "model: tiny\nreward: characters\ndata: {{kind: text, path: x.txt,\n  eval_path: {path}}}\n",
        "model: {{kind: pretrained,\n  path: ./{path}}}\ndata: tiny\nreward: characters\n",
        "model: tiny\ndata: tiny\nreward: {{kind: model,\n  path: ./{path}}}\n",
        TINY + "run_dir: {path}\n",
    ],
    ids=["data", "held-out data", "model", "reward model", "run folder"],
)
def test_no_setting_of_a_file_reads_the_system(cwd: Path, refused: Refused, settings: str) -> None:
    write(cwd / "r.yaml", settings.format(path="/proc/self/environ").replace(".//", "/"))
    assert re.match(rf"r.yaml:\d: {NOT_READ}", refused("config=r.yaml"))


@pytest.mark.case(78)
def test_a_model_folder_and_a_file_of_settings_are_regular(cwd: Path, refused: Refused) -> None:
    write(cwd / "model/config.json", "{}")
    (cwd / "model/model.safetensors").symlink_to("/dev/zero")
    assert "model.safetensors is not read: /dev belongs to the system" in refused(
        "config=tiny", "model=pretrained", "model.path=./model"
    )
    (cwd / "r.yaml").symlink_to("/proc/self/environ")
    assert refused("config=r.yaml") == "r.yaml: cannot be read: /proc belongs to the system"


def test_regular_files_behind_links_are_read(cwd: Path) -> None:
    write(cwd / "real.txt", "a prompt\n")
    (cwd / "link.txt").symlink_to(cwd / "real.txt")
    for path in ("link.txt", "missing.txt", "/dev/shm/prompts.txt", "/process/x.txt"):
        compose_config(["config=tiny", "data=text", f"data.path={path}"])


@pytest.mark.case(79)
@pytest.mark.parametrize(
    "name", ["DB_PASS", "GITHUB_PAT", "BASIC_AUTH", "AWS_CREDENTIALS", "SESSION_COOKIE", "SENTRY_DSN",
             "HF_TOKEN", "hf_token", "MY_KEY_2", "password", "A_SECRET"]
)  # fmt: skip
def test_names_of_secrets_are_known(name: str) -> None:
    guard_environment()
    for text in (f"${{oc.env:{name},x}}", f"${{oc.env:{name}}}"):
        config = OmegaConf.create({"resume": text})
        with pytest.raises(OmegaConfBaseException) as caught:
            OmegaConf.to_container(config, resolve=True)
        assert f"${{oc.env:{name}}}: not allowed: it looks like a secret" in str(caught.value)


SECRETS = (
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "npm_" + "aB3" * 12, "sk_live_" + "aB3" * 8,
    "rk_test_" + "aB3" * 8, "password=hunter2", "PWD=hunter2", "https://x.example/score?api_key=abcd1234",
    "https://x.example/?a=1&access_token=abcd1234", "wss://x.example/v1;sig=abcd1234", "gsk_" + "aB3" * 12,
    "Authorization: Bearer abcd1234efgh", "authorization: basic bWU6aHVudGVyMg==", "X-Api-Key: abcd1234",
    "{'Authorization': 'Bearer abcd'}", "Bearer abcdefgh12345678", "pypi-" + "aB3" * 12, "https://x/?Signature=aB3d",
)  # fmt: skip


@pytest.mark.case(79)
@pytest.mark.parametrize("secret", SECRETS)
def test_more_secrets(cwd: Path, refused: Refused, secret: str) -> None:
    write(cwd / "r.yaml", f'{TINY}# "{secret}"\n')
    for argv in (("config=r.yaml",), ("config=tiny", f'reward.url="{secret}"')):
        line = refused(*argv)
        assert "this looks like a" in line
        assert secret not in line


@pytest.mark.parametrize("secret", ["hf_" + "aB3" * 8, "AKIA" + "ABCD" * 4, "ghp_" + "aB3" * 12, "password=hunter2"])
def test_a_secret_may_be_part_of_a_name(secret: str) -> None:
    assert kind_of_secret(f"out_{secret}_2")
    assert kind_of_secret(f"run-{secret}")
    assert not kind_of_secret(f"x{secret}")


@pytest.mark.parametrize(
    "text",
    ["token_env: MY_API_KEY", "https://x.example/score?model=a&max_tokens=512", "http://127.0.0.1:8000/score?page=2",
     "https://x.example/?api_key=${oc.env:PORT}", r"password=(\w+)",
     "Bearer of bad news and so on", "the password is secret",
     "https://x.example/?key={key}", "sk_learn", "npm_run", "eyJ", "basic tokens: a, b", "keyboard=abcd"],
)  # fmt: skip
def test_what_only_resembles_a_secret_is_allowed(text: str) -> None:
    assert kind_of_secret(text) is None


def test_no_secret_comes_from_the_command_line(refused: Refused) -> None:
    assert refused("resume=${oc.env:hf_token}") == (
        "${oc.env:hf_token}: not allowed: it looks like a secret, and a run writes its config to disk"
    )


def test_harmless_things_are_allowed(
    cwd: Path, monkeypatch: pytest.MonkeyPatch, started: Callable[..., list[Launch]]
) -> None:
    monkeypatch.setenv("WHERE", "there")
    hydra = "hydra: {run: {dir: '${oc.env:WHERE}/x'}, job: {name: a}, verbose: false}\n"
    write(cwd / "r.yaml", TINY + "resume: ${oc.env:NOWHERE,auto}\n" + hydra)
    (job,) = started("config=r.yaml")
    assert (job.config.resume, job.config.run_dir) == ("auto", str(cwd / "there/x"))
    assert compose_config(["config=tiny", "device=${oc.env:DEVICE,cpu}"]).device == "cpu"
