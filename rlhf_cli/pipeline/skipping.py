"""Skipped steps: the gradient was not finite, or there was nothing to learn. The batch is dumped to RUN/skipped."""

import json
import shutil
from pathlib import Path
from typing import Final

from safetensors.torch import save

from rlhf_cli.errors import UserError
from rlhf_cli.pipeline.run import Training
from rlhf_cli.plural import plural
from rlhf_cli.runs.folder import SKIPPED
from rlhf_cli.runs.json_files import finite
from rlhf_cli.types import Advantages

KEPT: Final = 4
"""The newest batches, which are kept."""


class Skip(Exception):
    """Nothing can be learned from this step; `exit_code` is for a run that skips too many steps in a row.

    `batch` holds the step's advantages, if it got that far; if not, `failures` completions have no usable score.
    """

    def __init__(
        self, reason: str, fix: str, exit_code: int, *, batch: Advantages | None = None, failures: int = 0
    ) -> None:
        self.reason, self.fix, self.exit_code, self.batch, self.failures = reason, fix, exit_code, batch, failures
        super().__init__(reason)


class NoSignalFound(UserError):
    """A step that learned nothing from the reward ends the run; it is complete, also where it was skipped."""


def note_skip(run: Training, reason: Skip, place: str) -> None:
    """Note that the step under way is skipped, and `place`, where its batch can be seen.

    Raises UserError where more than `max_skipped_steps` are skipped in a row.
    """
    step, skipped = run.state.step + 1, run.state.skipped + 1
    if skipped > run.config.max_skipped_steps:
        raise UserError(
            f"{reason.reason} in step {step}, and {plural(skipped, 'step')} in a row changed nothing{place}",
            where="max_skipped_steps",
            fix=reason.fix,
            exit_code=reason.exit_code,
        )
    run.work.reporter.note(f"step {step} changes nothing: {reason.reason}{place}")


def dump(run_dir: Path, step: int, reason: str, batch: Advantages) -> Path:
    """Write the batch of a skipped step to RUN/skipped/step-NNNNNNNN; returns that folder.

    batch.json has prompts, completions and scores, batch.safetensors the tensors of the stages, in nats.
    """
    folder = run_dir / SKIPPED / f"step-{step:08d}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    scored, rollout = batch.scored, batch.scored.rollout
    tensors = {
        "tokens": rollout.tokens,
        "completion_mask": rollout.completion_mask,
        "logprobs": rollout.logprobs,
        "ref_logprobs": scored.distance.ref_logprobs,
        "scores": scored.scores,
        "rewards": scored.rewards,
        "advantages": batch.advantages,
    }
    content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    (folder / "batch.safetensors").write_bytes(content)  # `save_file` has an error of its own for a disk that refuses
    completions = [
        {"where": prompt.row.where, "prompt": prompt.text, "completion": text, "score": score}
        for prompt, text, score in zip(
            map(rollout.batch.prompt_of, range(len(rollout.batch))), rollout.texts, scored.scores.tolist(), strict=True
        )
    ]
    about = {"step": step, "reason": reason, "beta": scored.beta, "temperature": rollout.temperature}
    text = json.dumps(finite(about | {"completions": completions}), indent=2, ensure_ascii=False)
    (folder / "batch.json").write_text(text + "\n", encoding="utf-8")
    for old in sorted(folder.parent.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)
    return folder
