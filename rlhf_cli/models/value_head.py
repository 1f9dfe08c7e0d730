"""What PPO expects of a state: one linear layer on the last hidden state of the adapted model."""

from __future__ import annotations

from torch import Tensor, nn


class ValueHead(nn.Module):
    """w . h + b in float32; zero at first, so that an untrained head says nothing rather than noise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """The value of each state: [N, H] -> float32 [N]."""
        values: Tensor = self.linear(hidden.float())
        return values.squeeze(-1)
