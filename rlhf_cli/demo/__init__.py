"""The lecture, run by the tool's own algorithms on problems whose answers are known.

problem  a few prompts, every completion listed, a score for each: exact J, gradient and optimum
climb    gradient ascent on it, through the stages of a training run

lecture      the scenes without pictures: the ideas at the beginning, the tips at the end
soup         the toy: one query, six responses, a score for each
ascent       one run on the toy, with its exact J and probabilities
trick        scene a: the log-derivative trick
toy_example  scene b: gradient ascent
clipping     scene c: the clipped surrogate, and PPO
tuning       scene d: beta and the temperature
scene        the parts of a scene
"""
