"""Verbs to use before a run: they train nothing.

check            go or no-go, from one step without a change of weights
explain          the settings of a run: value, what sets it, meaning
data             data show: the prompts as the policy reads them
oracle           the optimum and the frontier of reward against KL
verify_gradient  the expected update of a run's settings beside the exact gradient
presets          the shipped YAML files: list, show, copy
schema           the JSON Schema of a verb's YAML files
skill            skill.md, a page that teaches a program to drive this tool
demo             the lecture, on the terminal or as a page
"""
