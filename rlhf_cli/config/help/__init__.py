"""Help for whoever writes a YAML file.

json_schema  the JSON Schema of a verb's YAML files, for editors: `rlhf schema`
presets      the shipped YAML files to begin with: `rlhf presets`
"""
