"""The duties of the processes of supervised training: the model that each loads, and the tasks that it may be sent."""

from collections.abc import Callable
from functools import partial
from typing import Final

from rlhf_cli.engine.choice import build_engine
from rlhf_cli.engine.opening import open_policy
from rlhf_cli.engine.reference import OneEngine
from rlhf_cli.models.policy import Policy
from rlhf_cli.models.value_head import ValueHead
from rlhf_cli.ranks.lockstep import Lockstep
from rlhf_cli.ranks.team import Duties
from rlhf_cli.supervised.settings import SupervisedConfig
from rlhf_cli.supervised.shards import judge_shard, learn_shard


def load(config: SupervisedConfig, note: Callable[[str], None], lockstep: Lockstep | None) -> tuple[Policy, OneEngine]:
    """Load the policy with the head that the objective asks for, and its engine; each process holds the whole model."""
    assert lockstep is None
    head = partial(ValueHead, shared_trunk=True, bias=False) if config.objective.scores else None
    policy = open_policy(config, note, head=head)
    return policy, build_engine(policy, config.model, note)


DUTIES: Final[Duties[SupervisedConfig, OneEngine]] = Duties(SupervisedConfig, load, (learn_shard, judge_shard))
