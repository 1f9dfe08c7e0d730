"""One paper, one file: from scored rollouts to advantages, and from advantages to a loss.

reinforce  the score-function gradient, with no baseline, the batch mean or a running mean
rloo       each completion against the mean of its group's others
"""

from typing import Annotated

from pydantic import Field

from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo

Algorithm = Annotated[Reinforce | Rloo, Field(discriminator="kind")]
