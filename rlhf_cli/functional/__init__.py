"""Pure functions on tensors; torch only, no state, no models.

masked    sums and means where a mask is True
returns   per-token rewards, returns-to-go, leave-one-out baselines
losses    the policy-gradient loss
logprobs  log-probabilities of chosen tokens without a [B, T, V] tensor, and their gradient
kl        k1 and the exact KL over the vocabulary
sampling  inverse-CDF sampling from one uniform a token
truncation  top-k, top-p and min-p, and the sets of tokens they kept
intervals means with standard errors and t intervals
optimum   how far a policy is towards the optimum, and what may be said of it from samples
best_of_n the best of n samples: its reward and its KL
"""
