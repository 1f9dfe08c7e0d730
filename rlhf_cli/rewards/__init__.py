"""Where scores come from.

reward       the `reward` group of the configuration: a source, and how to shape its scores
kinds        one reward, one file
execution    how to ask a reward: in a process of its own, with a deadline, again after a failure
shaping      clip scores and subtract penalties; their mean and spread over a run
texts        the text of a completion, and the answer that a pattern finds in it
columns      the columns of the data that a reward of ours reads
formulas     read answers as mathematics
notation     how answers are written: numbers with their units, expressions as they are typed
deadline     a time limit for each completion
http_client  JSON requests to a server, for http and judge
examine      test a reward on completions: `rlhf reward test`
checks       the checks of that test
"""

from rlhf_cli.rewards.reward import Reward

__all__ = ["Reward"]
