"""Make the folder that a run or a sweep writes to."""

from __future__ import annotations

import hashlib
import itertools
from contextlib import suppress
from pathlib import Path

from rlhf_cli.config.arguments import parse_override
from rlhf_cli.config.jobs import Plan
from rlhf_cli.config.options import PRESET
from rlhf_cli.config.session import PRIMARY
from rlhf_cli.errors import EXIT_DISK, UserError
from rlhf_cli.runs.changes import fingerprint


def make_folder(plan: Plan) -> Path:
    """Make the folder that the config names, or the default one, and return it, absolute.

    Raises UserError with EXIT_DISK if it cannot be made.
    """
    config = plan.jobs[0].config
    named = config.sweep_dir if plan.is_sweep else config.run_dir
    default = Path(plan.default_dir).absolute()
    try:
        if not named and not plan.is_sweep:
            return reserve_folder(default)
        folder = Path(named) if named else default / _sweep_name(plan)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{e.filename}: cannot be made: {e.strerror}", exit_code=EXIT_DISK) from e
    return folder


def reserve_folder(folder: Path) -> Path:
    """Make a new folder of that name, or with -2, -3, ... appended: two runs of the same second never share one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    candidates = itertools.chain([folder], (folder.with_name(f"{folder.name}-{n}") for n in itertools.count(2)))
    for candidate in candidates:
        with suppress(FileExistsError):
            candidate.mkdir()
            break
    return candidate


def _sweep_name(plan: Plan) -> str:
    """The preset's name and a hash of all configs, without what may change on resume."""
    digest = hashlib.sha256("".join(fingerprint(job.config) for job in plan.jobs).encode()).hexdigest()[:6]
    presets = [o.value() for o in map(parse_override, plan.jobs[0].overrides) if o.key_or_group == PRESET]
    return f"{Path(str(presets[-1])).stem if presets else PRIMARY}-{digest}"
