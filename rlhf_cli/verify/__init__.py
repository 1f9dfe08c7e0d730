"""Repeat a stretch of a run, and compare it bit for bit.

repeat      the last stretch of a run, from one checkpoint to the next, once more
divergence  the first difference between two executions of the same steps
"""
