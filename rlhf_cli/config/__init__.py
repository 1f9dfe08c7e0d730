"""From the command line to a validated RunConfig; the only package that imports hydra and omegaconf.

compose     the public face: launch, compose_config, amend
arguments   the command line: hydra's options put first, numbers and paths made digestible for it
jobs        the jobs of a command line, each composed and checked
files       a user's YAML, read as data: lines for the error messages, nothing that could run code
source      the ConfigSource behind config=FILE.yaml and beta=0.05
options     the groups that ship in configs/, and what may be chosen from them
keys        the names, kinds and paths of RunConfig's settings, read off the schema
problems    what is wrong with a config, in plain lines, the nearest right name included
security    configs that would run code or hold a secret, refused
session     hydra itself: started, configured, its errors in one line
launcher    our launcher of a sweep's jobs
completion  the shell's TAB
"""
