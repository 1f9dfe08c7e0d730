"""Ask a reward, so that a failure never becomes a score.

scorer    score a rollout: ask the reward's sources, add up weighted parts, shape the scores
retrying  ask one source, again after a failure
process   start a function's process, call the function with a deadline, kill it
messages  the messages of that process, checked whole
hashing   hash the file of a user's function with the files that it imports
ending    end a process with everything that it started
replies   the reply to a request: scores, or what is wrong with them, or how the function failed
worker    the script that runs in that process
"""
