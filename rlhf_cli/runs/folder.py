"""Every name inside a run's folder and a sweep's, as a constant: `folder / METRICS` is the path.

The names inside a checkpoint's folder are in `runs.checkpoint` and `pipeline.state`, which write them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rlhf_cli.errors import bad_disk
from rlhf_cli.models import location

CONFIG: Final = "config.json"
"""All settings, as they were when the run began or was last resumed."""
RECORD: Final = "run.json"
"""The machine, versions, model, data and reward that the run began with."""
RESULT: Final = "result.json"
"""The end of the run: its figures, and some texts."""

METRICS: Final = "metrics.jsonl"
"""One line a step; the same bytes every time."""
TIMINGS: Final = "timings.jsonl"
"""Seconds of each step; different every time."""
SAMPLES: Final = "samples.jsonl"
"""Some completions of each step."""
EVALUATIONS: Final = "evaluations.jsonl"
"""Held-out evaluations with all their completions."""
HARNESS: Final = "harness.jsonl"
"""A line for each time that `rlhf eval --harness` asked lm-eval."""
AUDITS: Final = "audits.jsonl"
"""A line for each `rlhf audit` of the run."""
LOGS: Final[Mapping[str, str]] = {
    "metrics": METRICS,
    "timings": TIMINGS,
    "samples": SAMPLES,
    "evaluations": EVALUATIONS,
}
"""The jsonl files, by the names under which a checkpoint stores their lengths."""

CHECKPOINTS: Final = "checkpoints"
"""A folder with one folder a checkpoint, and the hints LATEST and BEST."""
LATEST: Final = "latest"
"""The name of the newest checkpoint, for people; resuming never trusts it."""
BEST: Final = "best"
"""The name of the checkpoint with the best held-out objective, for people."""
ADAPTER: Final = location.ADAPTER
REWARD_MODEL: Final = location.REWARD_MODEL

LOCK: Final = ".lock"
"""Locked while a process works in the folder."""
REWARD_LOG: Final = "reward.log"
"""All that the reward's own process printed."""
REPORT: Final = "report.html"
"""The run or the sweep as a page."""
SKIPPED: Final = "skipped"
"""A folder with the batches of steps that changed nothing."""
FEEDBACK: Final = "feedback"
"""A folder with pairs of completions, and beside each file of them the votes of people."""
QUEUE: Final = "queue.jsonl"
"""In that folder: the pairs that the run made, and the votes that it read, step by step."""
PROFILE: Final = "profile"
"""A folder with the traces of torch's profiler."""
RANKS: Final = "ranks"
"""A folder with all that the run's other processes printed, a file each."""
TENSORBOARD: Final = "tb"
"""A folder with the curves for TensorBoard."""
WANDB_ID: Final = "wandb.id"
"""Names the run at Weights & Biases."""
HYDRA: Final = ".hydra"
"""A folder with hydra's own copies of the settings."""

MULTIRUN: Final = "multirun.yaml"
"""In a sweep's folder: hydra's own copy of its settings."""
SWEEP: Final = "sweep.json"
"""In a sweep's folder: its command and its trials."""
SHARED: Final = "reference"
"""In a sweep's folder: evaluations of the untouched policy that its trials share."""
ENDING: Final = "trial.json"
"""In a trial's folder: how its process ended."""
TRIAL_LOG: Final = "log.txt"
"""In a trial's folder: all that its processes printed."""

FILES: Final = (CONFIG, RECORD, RESULT, *LOGS.values(), HARNESS, AUDITS, LOCK, REWARD_LOG, REPORT, WANDB_ID, MULTIRUN)
FOLDERS: Final = (CHECKPOINTS, ADAPTER, REWARD_MODEL, SKIPPED, FEEDBACK, PROFILE, RANKS, TENSORBOARD, HYDRA)


def check_kinds(folder: Path, instead: str = "run_dir") -> None:
    """Raise UserError (exit 6) where a file of a run or a sweep is no file, or a folder of it no folder.

    `instead` is the setting that names another folder, for the message.
    Opening a pipe, for one, would never end, and a link would have another file read, cut or written.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_symlink() and not path.is_dir() and (path.name in FILES or path.name.startswith(".")):
            raise bad_disk(
                f"{path.name} is a link, and what it leads to would be changed",
                path,
                "put the file itself there, or give another folder",
            )
    for names, what, is_kind in ((FILES, "file", Path.is_file), (FOLDERS, "folder", Path.is_dir)):
        for path in (folder / name for name in names):
            if path.exists() and not is_kind(path):
                raise bad_disk(f"{path.name} is no {what}", path, f"move it away, or give another {instead}")


def find_links(folder: Path) -> dict[str, Path]:
    """Find the links among a run's folders that lead out of it, by name, with the folder that is written.

    People keep checkpoints on another disk, so they are followed; the caller says so.
    """
    root = folder.resolve()
    places = {name: (folder / name).resolve() for name in FOLDERS if (folder / name).is_symlink()}
    return {name: place for name, place in places.items() if not place.is_relative_to(root)}
