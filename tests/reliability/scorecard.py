"""The eighty faults and what is promised for each; a test says which it shows by `@pytest.mark.case(number)`.

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
    48: Case("a secret in config, environment or prompts", "refused, and nowhere in the run folder"),
    49: Case("a malicious pickle in a checkpoint", "never read"),
    50: Case("a hostile chat template", "sandboxed, bounded in time, memory and size"),
    51: Case("weights missing from the model's files", "refused, and the keys named; nothing is made up at random"),
    52: Case("an adapter beside the model's weights", "refused; the line says how to train over it, and how without"),
    53: Case("an adapter whose tensors do not fit the model", "refused: every tensor is used, or none"),
    54: Case("a chat that ends with the assistant's turn", "continued, not closed"),
    55: Case("a prompt that is rendered already", "taken as it is, and said: no second template, no second BOS"),
    56: Case("a special token that the reward looks for", "kept in the text that is scored, or missed in a note"),
    57: Case("the template ends a turn with another token than eos", "both end a completion"),
    58: Case("a message's key that the template does not use", "refused by its name; all others reach the template"),
    59: Case("the right answer is a formula, or no mathematics", "compared as a formula, or refused with its row"),
    60: Case("a host that only looks like this machine", "told by its address; nothing is sent without https"),
    61: Case("a flipped bit beside the checkpoint", "exit 5 before a model is loaded, and the file named"),
    62: Case("a module that the reward imports has changed", "exit 5 on resume, unless allowed"),
    63: Case("a reward that tells no completions apart", "said with the reason; stop where on_no_signal says so"),
    64: Case("`yes`, `1_000` or a typed line break", "read as it was typed, or refused"),
    65: Case("model weights cut, empty, of another shape, or a pointer", "one line with the file; no run folder"),
    66: Case("weights quantised for a library that is not there", "one line with the library; no run folder"),
    67: Case("odd values in config.json, tokens beyond the embedding", "one line with the key or the token"),
    68: Case("garbage from a reward's process", "a failure of its completion; on_error and retries apply"),
    69: Case("a reward's file named like a library, or resumed elsewhere", "found, and the library too"),
    70: Case("children of a reward's process", "ended with it, though they left its group"),
    71: Case("a held-out KL that is not finite", "exit 7, one line, before the evaluation is written"),
    72: Case("a terminal that knows few characters", "what it cannot show is escaped; exit 0"),
    73: Case("the reader of stdout leaves", "the run is complete, exit 0"),
    74: Case("Ctrl-C while the model loads", "exit 130 and no stub of a folder; 75 where a run goes on"),
    75: Case("escape sequences in prompts or completions", "harmless on a terminal, as they came in a file"),
    76: Case("foreign or damaged folders under outputs/", "passed over, named where they are newer; the rest resumes"),
    77: Case("an interpolation bomb, numbers of thousands of digits", "one line, at once"),
    78: Case("/proc, /sys, /dev, pipes as data or model", "refused before they are read"),
    79: Case("a token, password or key in a URL, a header or a text", "refused before anything is written"),
    80: Case("a model's config that names a pickle or an attention", "not read; the attention is ours"),
}
