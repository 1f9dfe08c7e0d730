"""The duties of the processes of `rlhf train`; supervised training has its own."""

from __future__ import annotations

from typing import Final

from rlhf_cli.engine.reference import AnyEngine
from rlhf_cli.ranks.gradient import differentiate
from rlhf_cli.ranks.sharding import load
from rlhf_cli.ranks.shards import WORKS
from rlhf_cli.ranks.team import Duties
from rlhf_cli.schema import RunConfig

DUTIES: Final[Duties[RunConfig, AnyEngine]] = Duties(
    RunConfig, load, {work.__name__: work for work in (*WORKS, differentiate)}
)
