"""`rlhf push RUN NAME/MODEL`: a run's adapter, or a folder that `rlhf merge` wrote, to a hub of models."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.display.printing import print_result
from rlhf_cli.errors import bad_run, visible
from rlhf_cli.models.exports.hub import TOKEN, upload
from rlhf_cli.paths import relative_to_here
from rlhf_cli.runs.json_files import read_object
from rlhf_cli.runs.resume import find_adapter, find_named, has_run

ADAPTER_FILES = ("adapter_*", "README.md")
"""The files of an adapter; a checkpoint holds more."""


def main(argv: list[str]) -> None:
    """Upload the files, and print where they are."""
    parser = Parser(
        prog="rlhf push",
        description="Upload a run's adapter, or the folder of a model (that of rlhf merge, or RUN/reward_model), as a "
        f"repository of the Hugging Face hub, or of the hub at HF_ENDPOINT. The token is {TOKEN}'s, no other.",
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder, a checkpoint, latest, or a model's folder")
    parser.add_argument("repo", metavar="NAME/MODEL", help="the repository; it is made where there is none")
    parser.add_argument("--public", action="store_true", help="make a new repository that all may read")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(argv)
    folder, files = _find(find_named(options.run))
    print(visible(f"uploading {relative_to_here(folder)} ..."), file=sys.stderr)
    url = upload(folder, files, options.repo, "Upload by rlhf-cli", private=not options.public)
    print_result({"url": url}, partial(print, visible(url)), as_json=options.json, indent=None)


def _find(path: Path) -> tuple[Path, Sequence[str]]:
    """The folder of a model, or that of a run's adapter, with its files; raises UserError (exit 5) for neither."""
    if not has_run(path) and (path / "config.json").is_file() and any(path.glob("*.safetensors")):
        if "model_type" not in read_object(path / "config.json"):
            raise bad_run("not the config of a model", path / "config.json", "bring back the file as it was written")
        return path, ("*",)
    return find_adapter(path)[0], ADAPTER_FILES
