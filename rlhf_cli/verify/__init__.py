"""Check promises on a user's own run: repeat a stretch bit for bit, try the first step, compare the gradient.

repeat      a stretch of a run, from one checkpoint to the next, once more
audit       the stretches of a run, some of them at random, and the chance that these meet a change
trial       one step without a change of weights: its samples, gradient, time and memory
machine     the machine and what is installed on it
divergence  the first difference between two executions of the same steps

gradient    the expected update of a run's settings beside the exact gradient of its objective, and a verdict
expected    every step of a small problem through the training code
exact       the oracle: J and its gradient by plain enumeration, without the training code
causes      the biases that the documentation names
"""
