"""The lecture, run by the tool's own algorithms on problems whose answers are known.

problem  a few prompts, every completion listed, a score for each: exact J, gradient and optimum
climb    gradient ascent on it, through the stages of a training run
"""
