"""Values that change over a run. Beta and temperature share three kinds; beta has two more, which follow the KL.

constant   one value
linear     a straight line from start to end
cosine     half a cosine from start to end: slow, fast, slow
adaptive   beta is nudged towards a KL (Ziegler et al. 2019)
target     beta holds a KL budget, by a proportional-integral controller

control    the state of the two that follow the KL
optimizer  AdamW's settings and its learning rate by step

The first three are functions of the step: `at(step, total)`. Adaptive and target have a state, `Control`: `begin()` and
`observe(control, kl)`.
"""

from typing import Annotated

from pydantic import Field

from rlhf_cli.schedules.adaptive import Adaptive
from rlhf_cli.schedules.constant import Constant
from rlhf_cli.schedules.cosine import Cosine
from rlhf_cli.schedules.linear import Linear
from rlhf_cli.schedules.target import Target

Planned = Constant | Linear | Cosine
Controlled = Adaptive | Target

Schedule = Annotated[Planned, Field(discriminator="kind")]
Beta = Annotated[Planned | Controlled, Field(discriminator="kind")]
