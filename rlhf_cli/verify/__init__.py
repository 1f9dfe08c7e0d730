"""Repeat a stretch of a run, and compare it bit for bit; or try its first step.

repeat      the last stretch of a run, from one checkpoint to the next, once more
trial       one step without a change of weights: what it shows and costs
machine     the machine and what is installed on it
divergence  the first difference between two executions of the same steps
"""
