"""A search by optuna, as the command line asks for it.

space  its settings, and the values to choose from
plan   its jobs: those that are checked before any runs, and one for each choice
"""
