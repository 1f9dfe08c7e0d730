"""PPO's estimate of the return from a state on: one linear layer on the adapted model's last hidden state."""

from __future__ import annotations

from torch import Tensor, nn


class ValueHead(nn.Module):
    """w . h + b in float32; zero at first, since random values would only add noise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """The value of each state: [N, H] -> float32 [N]."""
        values: Tensor = self.linear(hidden.float())
        return values.squeeze(-1)
