"""What is refused before a run begins, and what ends it early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.commands.parts import ready
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.errors import Stopped, UserError
from rlhf_cli.runs.checkpoint import publish
from rlhf_cli.runs.resume import Origin
from tests.unit.support import config_fields, config_of

ADAPTIVE = {"kind": "adaptive", "start": 0.1, "target": 4.0, "horizon_steps": 10.0, "lowest": 1e-4, "highest": 10.0}


def test_jobs_that_share_their_prompts_read_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read_rows = ready.read_rows
    monkeypatch.setattr(ready, "read_rows", lambda config: reads.append(config) or read_rows(config))
    checked: list[tuple[Any, ...]] = []
    for beta in (0.1, 0.2):
        ready.check_new_run(compose_config(["config=tiny", f"beta={beta}"]), checked)
    assert len(reads) == 1
    ready.check_new_run(compose_config(["config=tiny", "evaluate.every=0"]), checked)
    assert len(reads) == 2
    with pytest.raises(UserError, match="fewer than prompts_per_step=100000"):
        ready.check_new_run(compose_config(["config=tiny", "prompts_per_step=100000"]), checked)


@pytest.mark.parametrize("key", ["run_dir", "sweep_dir"])
@pytest.mark.parametrize(
    ("folder", "what"),
    [
        ("/", "the root of the file system"),
        ("//", "the root of the file system"),
        ("~", "your home folder"),
        ("here", "your home folder"),
        ("/tmp", "everybody's folder of temporary files"),
        ("/var/tmp/", "everybody's folder of temporary files"),
    ],
)
def test_a_folder_of_others_is_no_place_for_a_run(
    key: str, folder: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run as root wrote its config.json and checkpoints into /."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "here").symlink_to(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        ready.check_new_run(compose_config(["config=tiny", f"{key}={folder}"]), [])
    place = {"~": home, "here": tmp_path / "here"}.get(folder, Path(folder))
    assert caught.value.line() == f"{place} is {what} ({key}); fix: give a folder of its own, as {key}=outputs/NAME"
    ready.check_new_run(compose_config(["config=tiny", f"{key}={home / 'a'}"]), [])


@pytest.mark.parametrize(
    ("checkpoint", "resume", "resumable"),
    [(True, None, True), (False, None, False), (False, "auto", True)],
    ids=["a checkpoint", "nothing", "nothing, but the same command starts it again"],
)
def test_a_stop_is_resumable_where_something_goes_on(
    tmp_path: Path, checkpoint: bool, resume: str | None, resumable: bool
) -> None:
    if checkpoint:
        publish(tmp_path / "checkpoints", 3, {"state.json": b"{}"})
    with pytest.raises(Stopped) as caught, ready.name_checkpoint_on_failure(tmp_path, config_of(resume=resume)):
        raise Stopped("Ctrl-C")
    assert caught.value.resumable is resumable


def test_a_run_with_the_exact_kl_is_told_of_its_noise() -> None:
    assert not [note for note in ready.notes_at_start(config_of(), None) if "kl=exact" in note]
    (note,) = [note for note in ready.notes_at_start(config_of(kl="exact", exact_kl_every=1), None) if "kl=" in note]
    assert note == "kl=exact is unbiased, but its noise does not vanish at the optimum as that of kl=reward does"


@pytest.mark.parametrize(("warmup", "noted"), [(30, []), (31, ["optimizer.warmup_steps=31: in steps=3 the rate"])])
def test_a_warm_up_of_which_a_run_sees_less_than_a_tenth_is_noted(warmup: int, noted: list[str]) -> None:
    fields = config_fields()["optimizer"] | {"warmup_steps": warmup}
    found = [*ready.notes_at_start(config_of(steps=3, optimizer=fields), None)]
    assert [note.partition(" stays")[0] for note in found] == noted


@pytest.mark.parametrize(
    ("schedule", "beta", "noted"),
    [
        ("constant", {"kind": "constant", "value": 0.1}, False),
        ("constant", ADAPTIVE, False),
        ("linear", ADAPTIVE, True),
        ("constant", {"kind": "linear", "start": 0.1, "end": 0.2}, True),
    ],
    ids=["nothing", "a controller of beta", "the learning rate", "beta"],
)
def test_more_steps_are_noted_where_a_schedule_depends_on_them(
    schedule: str, beta: dict[str, Any], noted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready, "read_config", lambda folder: {"steps": 2})
    origin = Origin(tmp_path, tmp_path / "checkpoints" / "step-00000002", ())
    config = config_of(steps=3, beta=beta, optimizer=config_fields()["optimizer"] | {"schedule": schedule})
    found = [*ready.notes_at_start(config, origin)]
    assert any(note.startswith("the schedules depend on steps, which changed") for note in found) is noted


def test_a_limit_of_rollouts_without_dynamic_prompts_is_said_to_be_left_out() -> None:
    found = [[*ready.notes_at_start(config_of(**changes), None)] for changes in ({}, {"max_rollouts": 8})]
    assert [note for note in found[1] if note not in found[0]] == [
        "max_rollouts=8 is for prompts=dynamic: a step has one rollout"
    ]
    dynamic = config_of(max_rollouts=8, prompts="dynamic", algorithm={"kind": "rloo"})
    assert not [note for note in ready.notes_at_start(dynamic, None) if "max_rollouts" in note]


@pytest.mark.parametrize(
    ("kind", "bounds", "refused"),
    [
        ("adaptive", "beta.start=20", "20 is not between beta.lowest=0.0001 and beta.highest=10"),
        ("target", "beta.start=1e-5", "1e-05 is not between beta.lowest=0.0001 and beta.highest=10"),
        ("target", "beta.lowest=11", "0.05 is not between beta.lowest=11 and beta.highest=10"),
        ("target", "beta.start=10", None),
    ],
)
def test_a_controller_of_beta_starts_between_its_bounds(kind: str, bounds: str, refused: str | None) -> None:
    config = compose_config(["config=tiny", f"beta={kind}", bounds])
    if refused is None:
        ready.check_new_run(config, [])
        return
    with pytest.raises(UserError) as caught:
        ready.check_new_run(config, [])
    assert (caught.value.what, caught.value.where) == (refused, "beta.start")


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        (("reward=none",), True),
        (("reward=none", "reward.normalise=true"), True),
        (("reward=none", "reference=model", "reference.path=someone/teacher", "beta=0"), True),
        (("reward=none", "reference=model", "reference.path=someone/teacher"), False),
        (("reward=none", "reward.length_penalty=0.1"), False),
        (("beta=0",), False),
    ],
)
def test_a_new_run_has_something_to_learn(settings: tuple[str, ...], refused: bool) -> None:
    """The policy begins as the initial reference, so that without a reward J is at its optimum, 0, from the start."""
    config = compose_config(["config=tiny", *settings])
    if not refused:
        ready.check_new_run(config, [])
        return
    with pytest.raises(UserError) as caught:
        ready.check_new_run(config, [])
    assert caught.value.line() == (
        "without a reward there is nothing to learn but to write like another model, with beta above 0 (reward); fix: "
        "name a reward, or that model: reference=model reference.path=MODEL beta=1"
    )


def test_an_error_names_the_newest_checkpoint(tmp_path: Path) -> None:
    publish(tmp_path / "checkpoints", 3, {"state.json": b"{}"})
    with pytest.raises(UserError) as caught, ready.name_checkpoint_on_failure(tmp_path, config_of()):
        raise UserError("no")
    assert caught.value.line() == "no; newest valid checkpoint: step 3"
