"""The hidden reward of a policy's held-out completions, beside the reward model's, at each of its evaluations."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean

from rlhf_cli.evaluation.intervals import Estimate, estimate
from rlhf_cli.runs.disk import DISK, replace_file
from rlhf_cli.runs.json_files import Stored, read_lines


@dataclass(frozen=True, slots=True)
class Truth(Stored):
    """One evaluation of a policy; each list has the mean of a prompt's completions, in the order of `prompts`."""

    step: int
    prompts: list[int]
    kl: list[float]
    """Nats to the reference."""
    proxy: list[float]
    """The reward model's scores, which the policy was trained from."""
    true: list[float]
    """The hidden rewards."""

    @property
    def is_sound(self) -> bool:
        """Whether each list has a finite value for each prompt, of which there is one at least."""
        columns = (self.kl, self.proxy, self.true)
        same = all(len(column) == len(self.prompts) for column in columns)
        return bool(self.prompts) and same and all(map(math.isfinite, chain(*columns)))


def write_truth(file: Path, found: Sequence[Truth]) -> None:
    """Write a line an evaluation, all at once; raises OSError."""
    replace_file(file, "".join(f"{json.dumps(one.content())}\n" for one in found), DISK)


def read_truth(file: Path) -> list[Truth]:
    """The lines of such a file; empty where there is none, or it is not whole."""
    found = [Truth.parse(line) for line in read_lines(file) if line]
    sound = [one for one in found if one is not None and one.is_sound]
    return sound if len(sound) == len(found) else []


def change(before: Truth, after: Truth, name: str, level: float = 0.95) -> Estimate:
    """The change of the `proxy` or the `true` reward, paired by prompt, with its interval."""
    old, new = (dict(zip(one.prompts, getattr(one, name), strict=True)) for one in (before, after))
    return estimate([new[prompt] - old[prompt] for prompt in old if prompt in new], level)


def overoptimised_from(truth: Sequence[Truth]) -> Truth | None:
    """The evaluation with the highest true reward, where it fell from there to the end while the proxy rose; else None.

    The level of the intervals allows for the choice among all evaluations (Bonferroni), so that noise is no finding.
    """
    last = truth[-1]
    peak = max(truth, key=lambda one: fmean(one.true))
    if peak is last:
        return None
    level = 1 - 0.05 / (len(truth) - 1)
    fell, rose = (change(peak, last, name, level) for name in ("true", "proxy"))
    return peak if fell.high < 0 < rose.low else None
