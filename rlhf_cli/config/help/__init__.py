"""Help for whoever writes a YAML file.

listing      the groups, options and settings of a verb, for its help page
json_schema  the JSON Schema of a verb's YAML files, for editors: `rlhf schema`
presets      the shipped YAML files to begin with: `rlhf presets`
"""
