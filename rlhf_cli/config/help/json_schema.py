"""The JSON Schema of a verb's YAML files: keys, types, ranges, options and meanings, for editors.

It is draft 7, which YAML editors know. Every setting may be left out, and may be an interpolation, `${...}`. A group is
the name of an option, a mapping whose `kind` names the option, or values over the option that the file builds on. What
depends on several settings at once is left to `rlhf explain`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core.core_schema import ModelSchema

from rlhf_cli.config.options import config_dir, groups, options, read_option, takes_numbers
from rlhf_cli.config.security import HYDRA, TRUST
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.settings import Settings, read_meanings
from rlhf_cli.verbs import VERBS, Verb, composing

Node = dict[str, Any]

LEFT_OPEN: Final = {"$ref": "#/definitions/left_open"}
"""The place of a value that stands elsewhere, or is still to come."""
_IN_LINES: Final = ("properties", "definitions")
_FILE: Final = r"^~|/|\.ya?ml$"


def json_schema(verb: Verb[TrainingConfig]) -> Node:
    """The schema of the verb's files; verbs of the same settings share it."""
    with composing(verb):
        whole = verb.schema.model_json_schema(schema_generator=_WithMeanings)
        maker = _Maker(whole["$defs"])
        properties: Node = {"defaults": _defaults(verb), "hydra": _hydra()}
        for name, node in whole["properties"].items():
            properties[name] = maker.group(name, node) if name in groups() else maker.value(node, "")
    own = [one.words for one in VERBS if one.schema is verb.schema]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"A run of rlhf {', rlhf '.join(own)}",
        **_object(properties),
        "definitions": {
            "left_open": {
                "type": "string",
                "pattern": r"\$\{.+\}|^\?\?\?$",
                "description": "An interpolation, ${...}, or ??? for a value still to come.",
            },
            **dict(sorted(maker.definitions.items())),
        },
    }


def schema_file(verb: Verb[TrainingConfig]) -> Path:
    """The schema as a file beside the YAML files that ship."""
    first = next(one for one in VERBS if one.schema is verb.schema)
    return config_dir() / f"{'train' if first.words == 'train' else 'supervised'}.schema.json"


def write_json(schema: Node) -> str:
    """The text of the file: a line for each setting and each definition."""
    parts = []
    for key, part in schema.items():
        lines = [f"  {json.dumps(name)}: {_compact(one)}" for name, one in part.items()] if key in _IN_LINES else []
        text = "{\n" + ",\n".join(lines) + "\n }" if lines else _compact(part)
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _compact(node: Any) -> str:
    return json.dumps(node, ensure_ascii=False)


class _WithMeanings(GenerateJsonSchema):
    """Gives each setting its meaning as the description."""

    def model_schema(self, schema: ModelSchema) -> Node:
        """The schema of a group of settings."""
        node = super().model_schema(schema)
        settings: type[Settings] = schema["cls"]
        for name, meaning in read_meanings(settings).items():
            node["properties"][name]["description"] = meaning
        return node


class _Maker:
    """Makes the schema of files from that of a whole config, definition by definition."""

    def __init__(self, defs: Mapping[str, Node]) -> None:
        self._defs = defs
        self.definitions: dict[str, Node] = {}
        """The definitions that the schemas made so far refer to."""

    def group(self, group: str, node: Node) -> Node:
        """A group of the config: its options, or its settings."""
        own = self._follow(node)
        shared: Node = {}
        if "source" in own.get("properties", {}):  # the settings of a reward stand beside those of its source
            shared = {name: part for name, part in own["properties"].items() if name != "source"}
            own = own["properties"]["source"]
        kinds = [self._follow(ref) for ref in own.get("oneOf", [own])]
        return self._choice(group, group, kinds, shared, node.get("description") or own.get("description", ""))

    def value(self, node: Node, group: str) -> Node:
        """A setting; `group` is the group that it belongs to, or empty."""
        meaning = {"description": " ".join(node["description"].split())} if "description" in node else {}
        if "oneOf" in node:  # a part of a mixture or a weighted sum
            return self._choice(group, f"{group}.parts", [self._follow(ref) for ref in node["oneOf"]], {}, "")
        if "$ref" in node:
            name, settings = node["$ref"].rpartition("/")[2], self._follow(node)
            self.definitions[name] = self._settings(settings, group)
            about = " ".join(settings.get("description", "").split())
            return {"anyOf": [{"$ref": f"#/definitions/{name}"}, LEFT_OPEN], "description": about, **meaning}
        parts = node.get("anyOf", [node])
        plain = [self._plain(part, group) for part in parts]
        if any(set(part) <= {"type", "minLength"} and part.get("type") == "string" for part in plain):
            return (plain[0] if len(plain) == 1 else {"anyOf": plain}) | meaning
        return {"anyOf": [*plain, LEFT_OPEN], **meaning}

    def _plain(self, node: Node, group: str) -> Node:
        """A schema without title and meaning, in the words of draft 7."""
        # another file, or the command line, may add to a mapping
        left_out = ("title", "description", "default", "minProperties")
        plain = {key: part for key, part in node.items() if key not in left_out}
        if "prefixItems" in plain:
            plain["items"] = [self.value(part, group) for part in plain.pop("prefixItems")]
        elif "items" in plain:
            plain["items"] = self.value(plain["items"], group)
        if isinstance(plain.get("additionalProperties"), dict):
            plain["additionalProperties"] = self.value(plain["additionalProperties"], group)
        if "patternProperties" in plain:
            each = plain["patternProperties"].items()
            plain["patternProperties"] = {name: self.value(part, group) for name, part in each}
            plain["additionalProperties"] = False
        return plain

    def _choice(self, group: str, name: str, kinds: Sequence[Node], shared: Node, about: str) -> Node:
        """The options of these kinds, mappings of one kind each, and values over an option."""
        by_kind = {str(kind["properties"]["kind"]["const"]): kind for kind in kinds}
        kind_of = {option: str(read_option(group, option)["kind"]) for option in options(group)}
        names = {kind: [option for option, own in kind_of.items() if own == kind] for kind in by_kind}
        places: dict[str, list[Node]] = {}  # where each setting is defined, as references
        for key, part in shared.items():
            self.definitions[f"{name}.{key}"] = self.value(part, group)
            places[key] = [{"$ref": f"#/definitions/{name}.{key}"}]
        for kind, settings in by_kind.items():
            own = self._settings(settings, group)["properties"]
            if name != group:  # a part has the settings of its kind
                own = {key: {"$ref": f"#/definitions/{group}={kind}/properties/{key}"} for key in own}
            for key in own:
                places.setdefault(key, []).append({"$ref": f"#/definitions/{name}={kind}/properties/{key}"})
            chosen = {"kind": {"enum": names[kind], "description": " ".join(settings["description"].split())}}
            properties = {**chosen, **own, **{key: places[key][0] for key in shared}}
            self.definitions[f"{name}={kind}"] = {**_object(properties), "required": ["kind"]}
        over = {key: each[0] if len(each) == 1 else {"anyOf": each} for key, each in places.items()}
        self.definitions[f"{name}.over"] = _object(over)
        has_numbers = "constant" in by_kind and takes_numbers(group)
        numbers = [{"$ref": f"#/definitions/{name}=constant/properties/value"}] if has_numbers else []
        refs = [{"$ref": f"#/definitions/{name}={kind}"} for kind in by_kind]
        every = [option for option in options(group) if any(option in own for own in names.values())]
        return {
            "anyOf": [{"enum": every}, *numbers, *refs, {"$ref": f"#/definitions/{name}.over"}, LEFT_OPEN],
            **({"description": " ".join(about.split())} if about else {}),
        }

    def _settings(self, node: Node, group: str) -> Node:
        """The settings of a group or of a kind, each of which may be left out; a file may not trust a model's code."""
        parts = {name: part for name, part in node["properties"].items() if name not in ("kind", TRUST)}
        return _object({name: self.value(part, group) for name, part in parts.items()})

    def _follow(self, node: Node) -> Node:
        """The definition that a node refers to, or else the node."""
        return self._defs[node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _object(properties: Node) -> Node:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _defaults(verb: Verb[TrainingConfig]) -> Node:
    """The list of files and presets to build on, and of options."""
    choices = {
        f"^(override )?/*{group}$": {
            "anyOf": [{"enum": [*options(group), "???"]}, *([{"type": "number"}] if takes_numbers(group) else [])]
        }
        for group in groups()
    }
    one_choice = {"type": "object", "patternProperties": choices, "additionalProperties": False}
    folders = (config_dir() / one.presets for one in VERBS if one.schema is verb.schema)
    presets = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    item = {
        "anyOf": [
            {"enum": ["_self_", *presets]},
            {"type": "string", "pattern": _FILE},
            {**one_choice, "minProperties": 1, "maxProperties": 1},
        ]
    }
    about = "The presets and files to build on, the last one wins; and options of groups: - beta: linear."
    return {"anyOf": [{"type": "array", "items": item}, item, {"type": "null"}], "description": about}


def _hydra() -> Node:
    parts: Node = {
        name: {} if keys is None else {"type": "object", "propertyNames": {"enum": sorted(keys)}}
        for name, keys in HYDRA.items()
    }
    return {**_object(parts), "description": "What a file may set of hydra."}
