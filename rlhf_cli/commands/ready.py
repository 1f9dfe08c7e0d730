"""What can be refused before anything is written or a model is loaded."""

from __future__ import annotations

from rlhf_cli.models.location import local_path
from rlhf_cli.schema import RunConfig


def check_sources(config: RunConfig) -> None:
    """Raise UserError where the model's folder, or something that the reward needs, is not there."""
    if config.model.kind == "pretrained":
        local_path(config.model)
    config.reward.source.check("reward")
