"""Write the JSON Schemas of the YAML files into configs/, where editors find them."""

from __future__ import annotations

from rlhf_cli.config.help.json_schema import json_schema, schema_file, write_json
from rlhf_cli.verbs import VERBS

if __name__ == "__main__":
    for verb in VERBS:
        schema_file(verb).write_text(write_json(json_schema(verb)), encoding="utf-8")
