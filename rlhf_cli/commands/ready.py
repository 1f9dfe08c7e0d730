"""What can be refused before anything is written or a model is loaded."""

from __future__ import annotations

from rlhf_cli.models.source import find
from rlhf_cli.schema import RunConfig


def check_sources(config: RunConfig) -> None:
    """Raise UserError where the model's folder, or something that the reward needs, is not there."""
    if config.model.kind == "pretrained":
        find(config.model)
    config.reward.source.check("reward")
