"""No reward."""

from __future__ import annotations

from rlhf_cli.rewards.kinds.none import NoReward
from rlhf_cli.types import PromptRow


def test_every_completion_scores_nothing_which_is_the_most_there_is() -> None:
    reward = NoReward(kind="none")
    assert reward.score([PromptRow("p", {}, "f:1")] * 2, ["a", ""]) == [0.0, 0.0]
    assert reward.highest == 0.0
