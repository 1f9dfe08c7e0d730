"""How to ask a reward, so that a failure never becomes a score.

scorer    score a rollout: ask the reward's sources, add up weighted parts, shape the scores
retrying  ask one source, again after a failure
process   start a function's process, call the function with a deadline, kill it
worker    the script that runs in that process
"""
