"""commands.parts.rounds: the settings of a round's runs."""

from __future__ import annotations

from pathlib import Path

from rlhf_cli.commands.parts.rounds import policy_config, reward_model_config
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.rounds.folder import Round

ONE = Round(1, Path("/loop/round-1"))


def test_the_policy_keeps_its_settings_but_for_the_source_of_its_reward() -> None:
    config = compose_config(["config=tiny", "reward.truncated=mask", "reward.length_penalty=0.5", "beta=0.3"])
    found = policy_config(ONE, config)
    assert (found.reward.source.kind, found.reward.truncated, found.reward.length_penalty) == ("model", "mask", 0.5)
    assert found.reward.source.model_dump()["path"] == "/loop/round-1/reward-model"
    assert (found.run_dir, found.beta) == ("/loop/round-1/policy", config.beta)


def test_the_reward_model_has_the_policys_model_and_the_votes() -> None:
    config = compose_config(["config=tiny", "model.layers=1", "seed=3"])
    found = reward_model_config(ONE, config, ["steps=5"])
    assert (found.model, found.seed, found.steps) == (config.model, 3, 5)
    assert found.data.model_dump()["path"] == "/loop/round-1/preferences.jsonl"
