"""PPO's estimate of the return that follows a state: a linear layer on the adapted model's last hidden state."""

from __future__ import annotations

from torch import Tensor, nn


class ValueHead(nn.Module):
    """w . h + b in float32. Both w and b begin at zero, because random values would only add noise.

    On a shared trunk the gradient of its loss continues into the states; otherwise it stays in the head.
    """

    def __init__(self, width: int, *, shared_trunk: bool) -> None:
        super().__init__()
        self.shared_trunk = shared_trunk
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """The value of each state: [N, H] -> float32 [N]."""
        states = hidden if self.shared_trunk else hidden.detach()
        values: Tensor = self.linear(states.float())
        return values.squeeze(-1)
