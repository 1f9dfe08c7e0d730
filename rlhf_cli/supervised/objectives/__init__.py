"""One loss, one file: from a batch of fixed completions to a loss, and to the figures of an evaluation.

sft            the negative log-probability of completions
dpo            preferences, by the policy's own log-probabilities beside the reference's
bradley_terry  preferences, by the scores of a linear head: a reward model

objective      the base of them: everything that the loop asks of one
pairwise       the base of both objectives of preferences: their columns, shares and figures

An objective is a frozen model: `kind` names it, its fields are its knobs, its methods are its mathematics.
"""

from typing import Annotated

from pydantic import Field

from rlhf_cli.supervised.objectives.bradley_terry import BradleyTerry
from rlhf_cli.supervised.objectives.dpo import Dpo
from rlhf_cli.supervised.objectives.sft import Sft

Objective = Annotated[Sft | Dpo | BradleyTerry, Field(discriminator="kind")]
