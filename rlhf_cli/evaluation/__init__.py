"""Numbers about policies, from plain Python floats. No torch.

evaluation  a held-out evaluation, and the comparison of two
tilt        the optimum of one prompt by importance weights, with standard errors
optimum     how much of the optimum's gain a policy has, and when samples cannot tell
dial        a run's policy at other betas, from the completions of its last evaluation
oracle      the optimum and the frontier, from the reference's rewards
sides       two policies on the same prompts: every measure, and the paired difference
harness     lm-eval's tables of two models as one, with the paired difference
plateau     whether the held-out objective still grows, by a bound for any number of looks
attempts    pass@k and majority@k
diversity   distinct and repeated n-grams
best_of_n   the best of n samples: its reward and its KL
intervals   means with standard errors and t intervals, shares with Wilson's
contrasts   means over seeds and prompts with intervals and tests; Holm's rule
pairs       scores of chosen and rejected completions against the votes: accuracy, calibration
ranks       quantiles and rank correlation
"""
