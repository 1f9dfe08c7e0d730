"""Numbers about policies, from plain floats; no torch.

evaluation  what a held-out evaluation found, and how two of them compare
optimum     how far a policy is towards the optimum, and what may be said of it from samples
oracle      the optimum and the frontier, from the reference's rewards
best_of_n   the best of n samples: its reward and its KL
intervals   means with standard errors and t intervals
ranks       quantiles and rank correlation
"""
