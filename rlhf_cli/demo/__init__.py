"""The lecture, run by the tool's own algorithms on problems whose answers are known.

problem  a few prompts, every completion listed, a score for each: exact J, gradient and optimum
climb    gradient ascent on it, through the stages of a training run

lecture      what is said before the first picture and after the last
soup         the toy: one query, six responses, a score for each
ascent       one run on the toy, watched exactly
trick        scene a: the log-derivative trick
toy_example  scene b: gradient ascent
clipping     scene c: the clipped surrogate, and PPO
tuning       scene d: beta and the temperature
scene        what a scene is made of
page         all of it as one HTML page
"""
