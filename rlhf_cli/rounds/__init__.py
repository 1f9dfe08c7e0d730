"""Rounds of feedback: sample, vote, train a reward model, train the policy from it.

folder    the folder of several rounds: its names, and the settings that they began with
sampling  the pairs of a round, written by the policy of the round before
truth     the hidden reward of a policy's held-out completions, beside the reward model's
scoring   score pairs and held-out completions with the hidden reward
"""
