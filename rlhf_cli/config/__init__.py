"""From the command line to validated RunConfigs and their runs; the only room that imports hydra and omegaconf.

launch      the runs of a command line: check every job, make the folder, run
arguments   the command line: options apart from overrides, overrides written as hydra reads them
jobs        the jobs of a command line, each composed and checked once
compose     the RunConfig that overrides compose, alone or over the config of a saved run
naming      the names of a sweep's jobs, in messages and on disk
runner      planned jobs run: by ourselves, or by another launcher of hydra's
completion  the words that the shell's TAB offers
files       a preset or a user's file: what it builds on, what it chooses, what it sets
yaml_text   a YAML file as data, with the line of each key
source      the source of configs behind config=FILE.yaml and beta=0.05, for hydra
options     the groups that ship in configs/, and what may be chosen from them
typed       what was typed is what is read, or is refused
foreign     the names of settings in other tools, with ours
keys        the settings of RunConfig by dotted name, and which of them hold paths
problems    what is wrong with a config, in plain lines, the nearest right name included
interpolations  a limit to how many a config evaluates
security    configs that would run code or hold a secret, refused
session     hydra opened once, its errors in one line, and the pages of --help, --info and --cfg
"""
