"""Save a run: check for room at the start, publish checkpoints, tolerate a disk that refuses, keep the best one."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from rlhf_cli.errors import EXIT_DISK, EXIT_NONFINITE, UserError, bad_disk
from rlhf_cli.models.classifier import write_classifier
from rlhf_cli.models.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from rlhf_cli.models.location import REWARD_MODEL
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.state import TrainState, is_finite, serialise
from rlhf_cli.runs.checkpoint import find_newest, folder_of, prune, publish, step_of
from rlhf_cli.runs.disk import DISK, Disk, replace_file
from rlhf_cli.runs.folder import ADAPTER, BEST, CHECKPOINTS, LATEST
from rlhf_cli.schema import Checkpoint


class SaveFailed(UserError):
    """The last complete step could not be saved; trying it once more would not help."""


@dataclass(slots=True)
class Saver:
    """Publishes checkpoints in `folder`/checkpoints."""

    folder: Path
    settings: Checkpoint
    note: Callable[[str], None]
    disk: Disk = DISK
    failures: int = 0
    """Saves in a row that the disk refused."""
    bound: Mapping[str, str] = field(default_factory=dict)
    """Files of the run that its checkpoints are bound to: name -> SHA-256."""

    def save(
        self,
        state: TrainState,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        sync_logs: Callable[[], None],
        *,
        needed: bool,
    ) -> bool:
        """Sync the logs, publish a checkpoint of `state`, and remove the checkpoints that are not kept.

        Returns False where the disk refuses: that is noted, and the next save tries again. Raises SaveFailed where it
        refuses `max_failures` times in a row or the checkpoint is `needed` (exit 6), and for numbers that are not
        finite (exit 7), which are never published.
        """
        if not is_finite(policy, optimizer):
            raise SaveFailed(
                f"the weights after step {state.step} are not finite, so they were not saved",
                where="optimizer",
                fix="resume with a lower one: optimizer.lr=... resume_allow=[optimizer.lr]",
                exit_code=EXIT_NONFINITE,
            )
        root = self.folder / CHECKPOINTS
        try:
            sync_logs()
            self.disk.sync(self.folder)
            publish(root, state.step, serialise(state, policy, optimizer), self.disk, self.bound)
        except OSError as error:
            self._tolerate(state.step, error, needed)
            return False
        self.failures = 0
        best = [state.best.step] if state.best is not None and self.settings.keep_best else []
        try:
            prune(root, self.settings.keep, best, self.disk)
            for name, steps in ((LATEST, [state.step]), (BEST, best)):  # for people to look at
                there = [folder for step in steps if (folder := folder_of(root, step)).is_dir()]
                if there:
                    replace_file(root / name, f"{there[0].name}\n", self.disk)
                else:  # it would name a checkpoint that is gone, or is no longer kept
                    (root / name).unlink(missing_ok=True)
        except OSError as error:
            self.note(f"step {state.step} is saved, but the checkpoints cannot be tidied up: {_reason(error)}")
        return True

    def check_room(self, policy: Policy) -> None:
        """Raise UserError (exit 6) unless there is room for the checkpoints; those that are there count as room."""
        needed = self.bytes_needed(policy)
        there = sum(file.stat().st_size for file in (self.folder / CHECKPOINTS).glob("step-*/*"))
        free = shutil.disk_usage(self.folder).free + there
        if free < needed:
            raise bad_disk(
                f"the checkpoints need {_megabytes(needed)}, and {_megabytes(free)} are free",
                self.folder,
                "free some space, give another run_dir, or lower checkpoint.keep",
            )

    def bytes_needed(self, policy: Policy) -> int:
        """The size of the checkpoints that are kept, and one more: of the trained weights and their two moments."""
        weights = sum(p.numel() * p.element_size() for p in policy.parameters().values())
        return 3 * weights * (self.settings.keep + 1 + self.settings.keep_best)

    def export_adapter(self, step: int) -> Path:
        """Copy the adapter of that step's checkpoint to `adapter/`: a plain PEFT folder, replaced whole."""
        source = folder_of(self.folder / CHECKPOINTS, step)

        def copy(folder: Path) -> None:
            for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
                self.disk.write(folder / name, (source / name).read_bytes())

        return self._replace(ADAPTER, copy)

    def export_reward_model(self, policy: Policy, reads: str) -> Path:
        """Write the policy with its head to `reward_model/`: a plain transformers folder, replaced whole.

        `reads` is as in `write_classifier`.
        """
        return self._replace(REWARD_MODEL, lambda folder: write_classifier(policy, folder, reads))

    def _replace(self, name: str, write: Callable[[Path], None]) -> Path:
        """Replace a folder of the run by one that `write` fills; it is whole or absent. An OSError names it."""
        final, scratch = self.folder / name, self.folder / f".{name}.new"
        self._clear(scratch)
        self.disk.mkdir(scratch)
        try:
            write(scratch)
        except OSError as error:
            self._clear(scratch)
            raise OSError(error.errno, _reason(error), str(final)) from error
        for file in sorted(scratch.iterdir()):
            self.disk.sync(file)
        self.disk.sync(scratch)
        self._clear(final)
        self.disk.rename(scratch, final)
        self.disk.sync(self.folder)
        return final

    def _clear(self, folder: Path) -> None:
        if folder.exists():
            self.disk.remove(folder)

    def _tolerate(self, step: int, error: OSError, needed: bool) -> None:
        self.failures += 1
        what = f"the checkpoint of step {step} cannot be written: {_reason(error)}"
        newest = find_newest(self.folder / CHECKPOINTS).folder
        if needed or self.failures >= self.settings.max_failures:
            tries = "" if self.failures == 1 else f", as {self.failures} times in a row"
            raise SaveFailed(
                what + tries,
                where=str(self.folder / CHECKPOINTS),
                fix=f"free some space, then {'continue by resume=' if newest else 'give the command again'}",
                exit_code=EXIT_DISK,
            ) from error
        there = f"newest valid checkpoint: step {step_of(newest)}" if newest else "there is no valid checkpoint"
        self.note(f"{what}; the run goes on and tries again at the next one; {there}")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
