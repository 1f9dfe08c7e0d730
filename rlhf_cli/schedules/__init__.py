"""Values that change over a run; the same kinds serve beta and temperature.

constant  one value
linear    a straight line from start to end
cosine    half a cosine from start to end: slow, fast, slow
"""

from typing import Annotated

from pydantic import Field

from rlhf_cli.schedules.constant import Constant
from rlhf_cli.schedules.cosine import Cosine
from rlhf_cli.schedules.linear import Linear

Schedule = Annotated[Constant | Linear | Cosine, Field(discriminator="kind")]
