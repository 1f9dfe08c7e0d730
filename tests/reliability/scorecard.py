"""The fifty faults and what is promised for each; a test says which it shows by `@pytest.mark.case(number)`.

docs/reliability.md is made from this table and the marks of the tests (scripts/reliability).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Case:
    """One row of the scorecard."""

    fault: str
    promise: str


_SAME: Final = "the same bytes as the run that was never interrupted"
_OLDER: Final = "named, and passed over for an older checkpoint; exit 5 where there is none"

CASES: Final = {
    1: Case("the same config twice", "metrics, completions and adapter are the same bytes"),
    2: Case("kill -9, resumed inside epoch 1", _SAME),
    3: Case("resumed, then into the next epoch", _SAME),
    4: Case("resumed from a checkpoint inside epoch 2", _SAME),
    5: Case("resumed at the boundary of an epoch", _SAME),
    6: Case("preempted at the end of every epoch", "each epoch has an order of its own, and the bytes stay the same"),
    7: Case("stopped between two updates of one rollout", "published at step boundaries only; the same bytes"),
    8: Case("several PPO epochs a rollout", _SAME),
    9: Case("dropout in the adapter", _SAME),
    10: Case("a rollout in several microbatches", _SAME),
    11: Case("a resume between two logged averages", "every step is a line of its own; the same bytes"),
    12: Case("evaluation switched on", "the training stream does not notice"),
    13: Case("running baseline, scores' normaliser, beta that follows the KL", "restored; the same bytes"),
    14: Case("what was logged after the checkpoint", "cut back on resume: each step once"),
    15: Case("every crash state of a save", "a valid checkpoint, never an acknowledged one lost"),
    16: Case("kill -9 just as a checkpoint appears", "resumed every time"),
    17: Case("keep=1 and killed in mid-save", "the older checkpoint is there, and used"),
    18: Case("truncated adapter", _OLDER),
    19: Case("optimizer's moments missing", _OLDER),
    20: Case("state missing", _OLDER),
    21: Case("one flipped bit in the adapter", "noticed by its SHA-256"),
    22: Case("one flipped bit in the optimizer's moments", "noticed by their SHA-256"),
    23: Case("the optimizer's moments of another step", "noticed by their SHA-256"),
    24: Case("an empty or truncated file", _OLDER),
    25: Case("learning rate changed on resume", "exit 5 with the difference, unless allowed"),
    26: Case("data, reward's source, seed or beta changed on resume", "exit 5 with the difference, unless allowed"),
    27: Case("LoRA rank changed on resume", "exit 5, one line"),
    28: Case("a finished run resumed", "nothing happens, exit 0"),
    29: Case("resume= names nothing", "exit 5, and what was looked for"),
    30: Case("the folder holds another run", "refused, nothing touched"),
    31: Case("two processes, one run folder", "the second exits 2"),
    32: Case("the disk fills up", "says so and goes on; exit 6 if it stays; resumes once there is room"),
    33: Case("the folder cannot be written", "exit 6 before a model is loaded"),
    34: Case("SIGTERM", "the last complete step saved, exit 75"),
    35: Case("SIGUSR1, or the time limit", "the last complete step saved, exit 75, resumed exactly"),
    36: Case("Ctrl-C", "the last complete step saved, exit 75; a second one leaves at once"),
    37: Case("the reward hangs", "deadline, retries, then exit 4 with a checkpoint; signals are heard meanwhile"),
    38: Case("the reward raises", "exit 4 with function, completion and step; checkpoint of the step before"),
    39: Case("NaN or None for every completion", "exit 4 after as many steps as may be skipped"),
    40: Case("NaN or None for one completion", "stop, leave its prompt out, or a value: as chosen, and counted"),
    41: Case("scores of inf or 1e38", "exit 4 before the update, weights intact"),
    42: Case("scores of the wrong length or type; sys.exit(0)", "exit 4, and what was expected"),
    43: Case("weights that overflow", "the step skipped, then exit 7 with the last finite checkpoint"),
    44: Case("no prompts, or fewer than one step needs", "exit 3"),
    45: Case("no prompt column, null, a number, empty text", "exit 3 with file and line, before a model is loaded"),
    46: Case("a prompt longer than the context", "exit 3, or dropped and counted where the config says so"),
    47: Case("unicode, NUL, bidi, special tokens in prompts", "accepted, and written down as they came"),
    48: Case("a secret in config or environment", "refused, and nowhere in the run folder"),
    49: Case("a malicious pickle in a checkpoint", "never read"),
    50: Case("a hostile chat template", "sandboxed, bounded in time, memory and size"),
}
