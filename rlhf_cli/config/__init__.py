"""From the command line to validated configs and their runs; the only room that imports hydra and omegaconf.

launch      launch the runs of a command line: check every job, make the folder, run
arguments   read the command line: separate options from overrides, and write these as hydra reads them
jobs        plan the jobs of a command line; compose and check each of them once
compose     compose overrides into a verb's config, alone or over the config of a saved run
naming      the names of a sweep's jobs, and of folders
search      a search by optuna: its space, and its jobs
runner      run planned jobs, by ourselves or by another launcher of hydra
help        help for whoever writes a YAML file: its JSON Schema, the presets
completion  offer words for the shell's TAB
files       read a preset or a user's file: its bases, choices and values
yaml_text   read a YAML file as data, with the line of each key
source      give hydra the configs behind config=FILE.yaml and beta=0.05
options     the groups that ship in configs/, with their options
typed       refuse values that would be read as something else than was typed
foreign     the names of settings in other tools, with ours
keys        the settings of a verb's schema by dotted name, and which of them hold paths
problems    describe the mistakes in a config in plain lines, with the nearest right name
security    refuse configs that would run code, work without end or hold a secret
session     open hydra once, turn its errors into one line, and print --help, --info and --cfg
"""
