"""Go on with a sweep that has grown: the settings that are fixed name its folder, and begun trials keep theirs."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median_low
from typing import Final

from rlhf_cli.errors import UserError, bad_run
from rlhf_cli.runs.binding import changed
from rlhf_cli.runs.changes import is_free, is_under
from rlhf_cli.runs.folder import CONFIG, SWEEP, check_kinds
from rlhf_cli.runs.json_files import read_content
from rlhf_cli.schedules import Controlled
from rlhf_cli.schema import BY_MACHINE, RunConfig
from rlhf_cli.settings import flatten
from rlhf_cli.sweep.record import SweepRecord, Trial

SEED: Final = "seed"
"""A seed is a replicate of a point, and no setting of it: more seeds are the same sweep."""

Begun = Sequence[tuple[Trial, RunConfig]]
"""Trials that have a folder with settings in it."""


def fixed_settings(configs: Sequence[RunConfig], swept: Collection[str]) -> dict[str, str]:
    """The settings that all jobs of a sweep share and that decide what is learnt, as JSON by dotted key.

    `swept` are the keys of the swept values: they and what is below them are not fixed, nor is the seed.
    """
    first, *others = [_settings(config, ()) for config in configs]
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    return {key: value for key, value in shared.items() if not is_under(key, (*swept, SEED))}


def read_known(folder: Path) -> SweepRecord | None:
    """The record of the sweep in the folder; None without one.

    Raises UserError (exit 5) where it was changed, and (exit 6) where another of the sweep's files is no file.
    """
    check_kinds(folder, instead="sweep_dir")
    known = SweepRecord.read(folder)
    if known is None and (folder / SWEEP).exists():
        raise changed(SWEEP, folder, of="sweep")
    return known


def read_begun(sweep: SweepRecord | None) -> Begun:
    """The trials of a sweep whose settings can be read."""
    begun: list[tuple[Trial, RunConfig]] = []
    if sweep is not None:
        for trial in sweep.trials:
            with suppress(OSError, ValueError):
                begun.append((trial, RunConfig.model_validate_json(read_content(sweep.path(trial) / CONFIG))))
    return begun


def find_begun(begun: Begun, names: Sequence[str], configs: Sequence[RunConfig], swept: Collection[str]) -> list[str]:
    """The name of each job's folder: that of the trial which was begun with the same settings, or else its own."""
    known = {_point(config, swept): trial.name for trial, config in begun}
    own = {trial.name for trial, _ in begun} & {*names}
    return [
        name if name in own else known.get(_point(config, swept), name)
        for name, config in zip(names, configs, strict=True)
    ]


def refuse_other_names(launcher: str, begun: Sequence[str], planned: Sequence[str], folder: Path) -> None:
    """Raise UserError (exit 5) where a launcher of hydra's, which names the folders itself, would begin a trial again.

    The trial would count twice. `begun` are the names that `find_begun` gives to the planned ones.
    """
    for name, own in zip(begun, planned, strict=True):
        if name != own:
            fix = "leave hydra/launcher out, or give another sweep_dir"
            raise bad_run(f"{launcher} would begin the trial {name} again, as {own}", folder, fix)


def keep_begun(
    sweep: SweepRecord | None, begun: Begun, planned: Collection[str], fixed: Mapping[str, str]
) -> list[Trial]:
    """The trials of other values that the folder holds: those with a folder, in their order.

    Raises UserError (exit 5) where one of them has other fixed settings.
    """
    if sweep is None:
        return []
    fixed = {key: value for key, value in fixed.items() if (key, value) != ("dtype", '"auto"')}  # a trial keeps its own
    for config in (config for trial, config in begun if trial.name not in planned):
        settings = _settings(config, ())
        if key := next((key for key, value in fixed.items() if settings.get(key) != value), None):
            what = f"it holds a sweep of other fixed settings: {key}: {settings.get(key)} -> {fixed[key]}"
            raise bad_run(what, sweep.folder, "give another sweep_dir")
    return [trial for trial in sweep.trials if trial.name not in planned and sweep.path(trial).is_dir()]


def yardstick(configs: Sequence[RunConfig]) -> float:
    """The beta at which to compare points: the lower median of their final betas, a controller's first one."""
    return median_low(sorted({final_beta(config) for config in configs}))


def read_beta(text: str) -> float:
    """The beta that `--compare-at` gives; raises UserError for what is none."""
    with suppress(ValueError):
        if math.isfinite(beta := float(text)) and beta >= 0:
            return beta
    raise UserError(f"--compare-at takes a beta, a number of 0 or more, and not '{text}'")


def final_beta(config: RunConfig) -> float:
    """The beta of the last step; a controller's first one."""
    if isinstance(config.beta, Controlled):
        return config.beta.begin().beta
    return config.beta.at(config.steps - 1, config.steps)


def _settings(config: RunConfig, swept: Collection[str]) -> dict[str, str]:
    """The settings that decide what is learned, and the swept ones.

    Those that the machine decides under `auto` are not among them, but for dtype.
    """
    return {
        key: json.dumps(value)
        for key, value in flatten(config.model_dump(mode="json"))
        if is_under(key, swept) or key == "dtype" or not (is_free(key.split(".")[0]) or key in BY_MACHINE)
    }


def _point(config: RunConfig, swept: Collection[str]) -> frozenset[tuple[str, str]]:
    """The settings that tell trials apart; a trial that was begun refuses another dtype itself."""
    return frozenset(one for one in _settings(config, swept).items() if one[0] != "dtype" or is_under("dtype", swept))
