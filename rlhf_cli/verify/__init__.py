"""A stretch of a run repeated and compared, bit for bit.

repeat      a run's last stretch, from one checkpoint to the next, once more
divergence  the first difference between two executions of the same steps
"""
