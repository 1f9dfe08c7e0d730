"""One paper, one file: from scored rollouts to advantages, and from advantages to a loss.

reinforce       return-to-go minus a baseline: none, the batch mean or a running mean
rloo            each completion against the mean of its group's others
grpo            each completion against its group's mean and spread, clipped; Dr. GRPO and DAPO are settings of it
ppo             advantages from a value head, clipped, several updates per rollout

score_function  the base of reinforce and rloo: one update per rollout, tokens summed
baseline        the running mean that REINFORCE may subtract
placement       where the KL may go, and why some places are refused

An algorithm is a frozen model. `advantages(scored, past)` and `loss(minibatch, forward)` are its mathematics.
`min_group`, `min_completions`, `needs_value`, `shared_trunk`, `why_unsound(kl)` and `why_no_mask` are its demands.
`epochs`, `minibatch_size` and `aggregation` tell the pipeline how often, in what portions and with what weights a
rollout's tokens enter the loss.
"""

from typing import Annotated

from pydantic import Field

from rlhf_cli.algorithms.grpo import Grpo
from rlhf_cli.algorithms.ppo import Ppo
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo

Algorithm = Annotated[Reinforce | Rloo | Grpo | Ppo, Field(discriminator="kind")]
