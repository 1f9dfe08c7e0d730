"""A number for a state: a linear layer on the adapted model's last hidden state.

PPO estimates by it the return that follows a state, and a reward model scores a text by that of its last token.
"""

from torch import Tensor, nn


class ValueHead(nn.Module):
    """w . h + b in float32. Both w and b begin at zero, because random values would only add noise.

    On a shared trunk the gradient of its loss continues into the states; otherwise it stays in the head. Without a
    `bias` there is no b: differences of scores do not depend on it, and the heads of sequence classifiers have none.
    """

    def __init__(self, width: int, *, shared_trunk: bool, bias: bool = True) -> None:
        super().__init__()
        self.shared_trunk = shared_trunk
        self.linear = nn.Linear(width, 1, bias=bias)
        for parameter in self.linear.parameters():
            nn.init.zeros_(parameter)

    def forward(self, hidden: Tensor, *, by_row: bool = False) -> Tensor:
        """The value of each state: [N, H] -> float32 [N].

        `by_row`: its bits depend on no other row; a product's do.
        """
        states = (hidden if self.shared_trunk else hidden.detach()).float()
        if by_row:
            values = (states * self.linear.weight).sum(-1)
            return values if self.linear.bias is None else values + self.linear.bias
        column: Tensor = self.linear(states)
        return column.squeeze(-1)
