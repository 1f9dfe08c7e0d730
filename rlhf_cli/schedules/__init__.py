"""Values that change over a run: three kinds for beta and temperature, and two for beta alone, which follow the KL.

constant    one value
linear      a straight line from start to end
cosine      half a cosine from start to end: slow, fast, slow
adaptive    beta moves towards a KL in small steps (Ziegler et al. 2019)
target      beta holds a KL budget, by a proportional-integral controller

ramp        the base of linear and cosine
controller  the base of adaptive and target, and their state
optimizer   AdamW's settings and its learning rate by step

The first three are functions of the step: `at(step, total)`. Adaptive and target follow the KL: `begin()` returns their
`ControllerState`, and `observe(state, kl)` the next one.
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
