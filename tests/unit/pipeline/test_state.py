"""A checkpoint's files bring everything back, bit for bit, and a step can be undone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.state import (
    OPTIMIZER,
    STATE,
    VALUE_HEAD,
    Best,
    TrainState,
    copy_tensors,
    is_finite,
    load,
    restore_tensors,
    serialise,
)
from rlhf_cli.prompts.headroom import Headroom
from rlhf_cli.runs.logbook import Mark
from rlhf_cli.schedules.controller import ControllerState
from tests.unit.support import build, tiny

FULL = TrainState(
    step=7,
    baseline=RunningMean(56, 0.1 + 0.2),
    control=ControllerState(0.1, -0.3),
    sampler_gap=1e-5,
    best=Best(4, 0.25, 1.5),
    skipped=2,
    microbatch_size=3,
    headroom=Headroom({0: 1.0, 12: 1.75}, {0: 0.1 + 0.2, 12: 0.0}, ((3, 0.1, 1.5),), (0.5, 0.1)),
    rollouts=11,
    logs={"metrics": Mark(10, "ab"), "samples": Mark(0, "cd")},
)


def save(folder: Path, state: TrainState, policy: Policy, optimizer: torch.optim.AdamW) -> None:
    """Write the files of a checkpoint as they are."""
    for name, content in serialise(state, policy, optimizer).items():
        (folder / name).write_bytes(content)


def trained(architecture: str, steps: int, adapter_seed: int = 1) -> tuple[Policy, torch.optim.AdamW]:
    """A policy and its optimizer after some steps on noise."""
    policy = build(tiny(architecture), adapter_seed)
    optimizer = adamw(policy)
    for step in range(steps):
        take(policy, optimizer, step)
    return policy, optimizer


def adamw(policy: Policy) -> torch.optim.AdamW:
    return torch.optim.AdamW(policy.parameters().values(), lr=0.01)


def take(policy: Policy, optimizer: torch.optim.AdamW, step: int) -> None:
    """One step on a gradient that depends on `step` alone."""
    generator = torch.Generator().manual_seed(step)
    for parameter in policy.parameters().values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    optimizer.zero_grad()


def assert_same(one: tuple[Policy, torch.optim.AdamW], other: tuple[Policy, torch.optim.AdamW]) -> None:
    ours, theirs = copy_tensors(*one), copy_tensors(*other)
    assert ours.parameters.keys() == theirs.parameters.keys()
    assert ours.moments.keys() == theirs.moments.keys()
    for name, weight in ours.parameters.items():
        assert torch.equal(weight, theirs.parameters[name]), name
    for name, moments in ours.moments.items():
        assert moments.keys() == theirs.moments[name].keys()
        for key, value in moments.items():
            assert torch.equal(value, theirs.moments[name][key]), (name, key)
            assert value.dtype == theirs.moments[name][key].dtype


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_saved_and_loaded_everything_is_as_it_was(architecture: str, steps: int, tmp_path: Path) -> None:
    before = trained(architecture, steps)
    full = replace(FULL, step=steps)
    save(tmp_path, full, *before)
    after = trained(
        architecture, 2, adapter_seed=9
    )  # a fresh process would have an optimizer without moments; this one has others
    assert load(tmp_path, *after) == full
    assert_same(after, before)
    for resumed in (before, after):
        take(*resumed, step=99)
    assert_same(after, before)


def test_a_value_head_is_part_of_a_checkpoint(tmp_path: Path) -> None:
    def with_head(seed: int) -> tuple[Policy, torch.optim.AdamW]:
        policy = build(tiny(), seed, value_head=True)
        return policy, torch.optim.AdamW(policy.parameters().values(), lr=0.01)

    before, after = with_head(1), with_head(9)
    for step in range(3):
        take(*before, step)
    assert "value_head.linear.weight" in before[0].parameters()
    save(tmp_path, replace(FULL, step=3), *before)
    load(tmp_path, *after)
    assert_same(after, before)
    (tmp_path / VALUE_HEAD).unlink()
    with pytest.raises(UserError, match=r"^the checkpoint has no value head") as caught:
        load(tmp_path, *after)
    assert caught.value.exit_code == EXIT_RESUME


def test_before_the_first_step_there_is_neither_a_control_nor_a_gap(tmp_path: Path) -> None:
    run = trained("llama", 0)
    save(tmp_path, TrainState(), *run)
    assert load(tmp_path, *run) == TrainState()
    assert not {"headroom", "rollouts"} & json.loads((tmp_path / STATE).read_text()).keys()


def test_the_bytes_depend_on_nothing_but_the_content(tmp_path: Path) -> None:
    written = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        save(tmp_path / name, FULL, *trained("llama", 2))
        written.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert written[0] == written[1]


def test_no_file_is_a_pickle(tmp_path: Path) -> None:
    save(tmp_path, FULL, *trained("llama", 1))
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        OPTIMIZER,
        STATE,
    ]


def test_moments_are_saved_under_the_names_of_their_parameters(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    policy, optimizer = trained("llama", 1)
    save(tmp_path, FULL, policy, optimizer)
    found = {key.rpartition("|")[0] for key in load_file(tmp_path / OPTIMIZER)}
    assert found == set(policy.parameters())


def test_another_schema_is_refused(tmp_path: Path) -> None:
    policy, optimizer = trained("llama", 1)
    save(tmp_path, FULL, policy, optimizer)
    state = json.loads((tmp_path / STATE).read_text())
    (tmp_path / STATE).write_text(json.dumps(state | {"schema": 1}))
    with pytest.raises(UserError, match=r"^written by another version of rlhf-cli") as caught:
        load(tmp_path, policy, optimizer)
    assert caught.value.exit_code == EXIT_RESUME


def test_another_adapter_is_refused(tmp_path: Path) -> None:
    save(tmp_path, FULL, *trained("llama", 1))
    other = build(tiny(rank=5))
    with pytest.raises(UserError, match=r"^the adapter does not fit the model"):
        load(tmp_path, other, torch.optim.AdamW(other.parameters().values()))


@pytest.mark.parametrize("steps", [0, 2])
def test_a_step_can_be_undone(steps: int) -> None:
    run, expected = trained("llama", steps), trained("llama", steps)
    copy = copy_tensors(*run)
    take(*run, step=50)
    for parameter in run[0].parameters().values():
        parameter.grad = torch.ones_like(parameter)  # half a gradient of the step after
    restore_tensors(copy, *run)
    assert_same(run, expected)
    assert all(parameter.grad is None for parameter in run[0].parameters().values())
    for resumed in (run, expected):
        take(*resumed, step=51)
    assert_same(run, expected)


def test_a_copy_is_not_moved_by_what_follows_even_after_it_was_put_back() -> None:
    run, expected = trained("llama", 1), trained("llama", 1)
    copy = copy_tensors(*run)
    for step in (60, 61):
        take(*run, step=step)
        restore_tensors(copy, *run)
    assert_same(run, expected)


def test_moments_that_are_missing_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    policy, optimizer = trained("llama", 1)
    save(tmp_path, FULL, policy, optimizer)
    moments = load_file(tmp_path / OPTIMIZER)
    lost = next(iter(policy.parameters()))
    save_file({k: v for k, v in moments.items() if not k.startswith(f"{lost}|")}, tmp_path / OPTIMIZER)
    with pytest.raises(UserError, match=r"^the optimizer's state does not fit the adapter"):
        load(tmp_path, policy, optimizer)


def test_what_is_not_finite_is_noticed_in_weights_and_moments() -> None:
    policy, optimizer = trained("llama", 1)
    assert is_finite(policy, optimizer)
    name, parameter = next(iter(policy.parameters().items()))
    with torch.no_grad():
        parameter.view(-1)[-1] = torch.inf
    assert not is_finite(policy, optimizer), name
    policy, optimizer = trained("llama", 1)
    optimizer.state[next(iter(policy.parameters().values()))]["exp_avg_sq"].view(-1)[0] = torch.nan
    assert not is_finite(policy, optimizer)


def test_the_best_is_told_at_the_beta_it_is_asked_for() -> None:
    # 0.5 - 0.1 x 3 = 0.2 and 0.4 - 0.1 x 1 = 0.3; at beta 0.01: 0.47 and 0.39
    greedy, careful = Best(4, 0.5, 3.0), Best(8, 0.4, 1.0)
    assert [careful.beats(greedy, beta) for beta in (0.1, 0.01)] == [True, False]
    assert [greedy.beats(careful, beta) for beta in (0.1, 0.01)] == [False, True]
    assert greedy.beats(None, 0.1)


@pytest.mark.parametrize(
    ("reward", "kl", "beta", "beats"),
    [
        (0.5, 0.0, 0.1, False),  # the same
        (0.5, -1e-8, 0.1, False),  # a KL of float32's rounding
        (0.5, -0.9e-6, 10.0, False),  # whatever beta makes of it
        (0.5, -1e-5, 0.1, True),
        (0.5 + 1e-7, 0.0, 0.1, False),  # less than 0.5 x 2^-22 = 1.2e-7
        (0.5 + 1e-6, 0.0, 0.0, True),
        (0.5 + 1e-6, 0.0, 0.1, True),
        (0.5 - 1e-6, -1e-4, 0.1, True),  # 1e-5 for 1e-6
    ],
)
def test_an_evaluation_that_is_better_by_rounding_is_not_the_best(
    reward: float, kl: float, beta: float, beats: bool
) -> None:
    """A step that changed nothing took the place of step 0, by a KL of -1e-8."""
    assert Best(2, reward, kl).beats(Best(0, 0.5, 0.0), beta) is beats
    assert Best(2, -1.0, 0.0).beats(Best(0, -1.0 - 2e-7, 0.0), 0.0) is False


@pytest.mark.parametrize("dora", [False, True])
def test_a_layer_that_no_text_goes_through_has_no_moments(dora: bool, tmp_path: Path) -> None:
    """The layers of a model's images, for one: their adapter never gets a gradient."""
    before, after = ((policy, adamw(policy)) for policy in (build(tiny(dora=dora), seed) for seed in (1, 2)))
    for name, parameter in before[0].parameters().items():
        if "layers.1.mlp.up_proj" not in name:
            parameter.grad = torch.ones_like(parameter)
    before[1].step()
    save(tmp_path, FULL, *before)
    assert load(tmp_path, *after) == FULL
    assert len(copy_tensors(*after).moments) == len(after[0].parameters()) - (3 if dora else 2)
    assert_same(after, before)


def test_a_run_whose_first_steps_all_changed_nothing_has_no_moments_yet(tmp_path: Path) -> None:
    policy, optimizer = trained("llama", 0)
    save(tmp_path, FULL, policy, optimizer)
    assert load(tmp_path, policy, optimizer) == FULL
