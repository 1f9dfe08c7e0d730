"""Whether a run is healthy, from its metrics and evaluations. No torch.

course       what the rules read: a run's first and newest steps and evaluations
steps        the rules that read steps
evaluations  the rules that read held-out evaluations
overrides    settings to try
rules        all rules, by name
stopping     the rules that end a run before its last step
alarms       the alarms of a run: when each began, and whether it lasts
"""
