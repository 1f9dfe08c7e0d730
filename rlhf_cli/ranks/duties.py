"""The duties of the processes of `rlhf train`; supervised training has its own."""

from typing import Final

from rlhf_cli.engine.reference import AnyEngine
from rlhf_cli.ranks.gradient import differentiate
from rlhf_cli.ranks.sharding import load
from rlhf_cli.ranks.shards import TASKS
from rlhf_cli.ranks.team import Duties
from rlhf_cli.schema import RunConfig

DUTIES: Final[Duties[RunConfig, AnyEngine]] = Duties(RunConfig, load, (*TASKS, differentiate))
