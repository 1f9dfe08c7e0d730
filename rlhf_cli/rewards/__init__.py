"""Rewards: score completions.

reward       the `reward` group of the configuration: a source, and how to shape its scores
kinds        one reward, one file
execution    how to ask a reward: in a process of its own, with a deadline, again after a failure
shaping      clip scores and subtract penalties; their mean and spread over a run
texts        the text of a completion, and the answer in it that a pattern finds
columns      the columns of the data that a built-in reward reads
formulas     read answers as mathematics
notation     turn the ways to write an answer into one: signs, units, Markdown, typed expressions
deadline     a time limit for each completion
http_client  JSON requests to a server, for http and judge
examine      test a reward on completions: `rlhf reward test`
checks       the checks of that test
"""

from rlhf_cli.rewards.reward import Reward

__all__ = ["Reward"]
