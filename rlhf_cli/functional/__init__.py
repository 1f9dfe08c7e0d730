"""Pure functions on tensors; torch only, no state, no models.

masked      sums and means where a mask is True
returns     per-token rewards, returns-to-go, leave-one-out baselines, generalised advantages
losses      token weights, the policy-gradient loss, clipped losses, the KL as a loss
logprobs    log-probabilities of tokens without a [B, T, V] tensor, and their gradient
kl          k1 and the exact KL over the vocabulary
sampling    inverse-CDF sampling from one uniform per token
truncation  top-k, top-p and min-p, and the sets of tokens that they keep
mismatch    how far sampler and trainer are apart, and the weights that correct it
"""
