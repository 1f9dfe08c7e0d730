"""Give hydra its configs: our options, presets, users' files, and the numbers that some groups take."""

from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from rlhf_cli.config.files import PARTS, UserFile, options_of_parts, read_file
from rlhf_cli.config.options import PRESET, groups, is_number, preset_path, takes_numbers

_SCHEME = "rlhf"


class RlhfSource(ConfigSource):
    """Loads config/..., GROUP/NUMBER and GROUP//absolute/path.yaml; hydra itself loads the other files of configs/."""

    @staticmethod
    def scheme() -> str:
        """The part before :// on the search path."""
        return _SCHEME

    def available(self) -> bool:
        """Return True: hydra asks whether the source exists."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Return False: hydra itself finds the groups in configs/."""
        return False

    def is_config(self, config_path: str) -> bool:
        """Whether the path is an option, a preset, a file, or a number for a group that takes numbers."""
        group, _, option = config_path.partition("/")
        if group == PRESET:
            return preset_path(option).is_file()
        return group in groups() and (option.startswith("/") or (takes_numbers(group) and is_number(option)))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return nothing: there are too many numbers and files to list."""
        return []

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a number as the group's constant, a file as a preset, or a file's part of a group as an option."""
        group, _, option = config_path.partition("/")
        content: dict[str, Any]
        if group == PRESET:
            content = _preset(read_file(preset_path(option)))
        elif option.startswith("/"):
            content = _part(group, option)
        else:
            content = {"value": float(option), "defaults": ["constant", "_self_"]}
        package = "_global_" if group == PRESET else None
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(content), {"package": package})


def _preset(file: UserFile) -> dict[str, Any]:
    """Turn a file into a config for hydra; its choices are overrides, so that those of the command line win."""
    overrides = [{f"override /{group}": option} for group, option in file.choices.items()]
    # a list, even of one option: only in a list does hydra read a path that holds an `@`
    bases = [{f"/{PRESET}@_global_": [str(base) for base in file.bases]}] if file.bases else []
    return {**file.values, "defaults": [*bases, "_self_", *overrides]}


def _part(group: str, file: str) -> dict[str, Any]:
    """Turn a file's part of a group into a config for hydra: values over an option, through the files it builds on."""
    option, layers = file, list[Any]()
    while option.startswith("/"):
        option, values = read_file(Path(option)).parts[group]
        layers.insert(0, values)
    merged: Any = OmegaConf.to_container(OmegaConf.merge(*layers))
    choices = options_of_parts(merged)
    for name in choices:  # the other values of a part stand over its option
        part = merged[PARTS][name]
        merged[PARTS][name] = {k: v for k, v in part.items() if k != "kind"} if isinstance(part, dict) else {}
    inside = [{f"/{group}@{PARTS}.{name}": choice} for name, choice in choices.items()]
    return {**merged, "defaults": [option, *inside, "_self_"]}


class RlhfSearchPath(SearchPathPlugin):
    """Puts our source on hydra's search path, ahead of the folder."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Prepend our source; hydra calls this."""
        search_path.prepend(_SCHEME, f"{_SCHEME}://")
