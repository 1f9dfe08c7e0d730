"""Where scores come from.

reward       the `reward` group: a source, and how its scores are shaped
kinds        one source, one file
execution    how a source is asked: in a process of its own, with a deadline, again where there was trouble
shaping      scores clipped and penalised; their mean and spread over the run
texts        the text of a completion, and the answer a pattern finds in it
deadline     the time that one completion may take
http_client  requests to a server, for http and judge
examine      any reward on the bench: `rlhf reward test`
"""

from rlhf_cli.rewards.reward import Reward

__all__ = ["Reward"]
