"""Measure the votes that `rlhf label --choose informative` saves, and the coverage of its intervals.

A simulated annotator votes by the Bradley-Terry law on a hidden quality, of which the reward sees a part, and calls a
share of the pairs a tie: P(a over b) = 1 / (1 + exp(-(SLOPE x reward difference + SHIFT + noise))).

1. Votes until the interval is as narrow as that of VOTES random votes, in the same world, over WORLDS worlds.
2. How often 95 % intervals hold the share by which the votes are made, over SIMULATIONS worlds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from random import Random
from statistics import fmean, stdev
from typing import Final

from rlhf_cli.evaluation.intervals import Share, wilson
from rlhf_cli.feedback.choice import Choose, Prediction, draw, informative, uniform
from rlhf_cli.feedback.pairs import with_ids
from rlhf_cli.feedback.preference import Row
from rlhf_cli.feedback.votes import Choice, Standing, Vote
from rlhf_cli.feedback.win_rate import win_rate

WORLDS: Final = {
    "people share the reward": (4.0, 0.5, 0.5),
    "people share it in part": (2.0, 0.5, 0.5),
    "it says nothing": (0.0, 0.5, 1.0),
}
"""Slope, shift, and the standard deviation of what the reward does not see."""
TIES: Final = 0.05
VOTES: Final = 100
ASKED: Final[tuple[tuple[Choose, int], ...]] = (("random", 60), ("informative", 30), ("informative", 60))
NAMES: Final[dict[float, Choice]] = {1.0: "a", 0.5: "tie", 0.0: "b"}


class Annotator:
    """The pairs of one world, and the votes that its annotator would cast."""

    def __init__(self, seed: int, slope: float, shift: float, noise: float, count: int) -> None:
        rng = Random(seed)
        gaps = [rng.gauss(0, 1) for _ in range(count)]
        texts = [("x" * rng.randint(20, 80), "y" * rng.randint(20, 80)) for _ in range(count)]
        self.pairs = with_ids(Row(str(n), *texts[n], (gaps[n], 0.0)) for n in range(count))
        self.scores = {
            pair.id: 0.5
            if rng.random() < TIES
            else float(rng.random() < chance(slope * gap + shift + rng.gauss(0, noise)))
            for pair, gap in zip(self.pairs, gaps, strict=True)
        }
        self._rng = rng

    def agreement(self) -> float:
        """The share of decided pairs on which the annotator prefers what has the higher reward."""
        decided = [(pair, self.scores[pair.id]) for pair in self.pairs if self.scores[pair.id] != 0.5]
        return fmean((pair.rewards is not None and pair.rewards[0] > 0) == (score == 1) for pair, score in decided)

    def votes(self, choose: Choose) -> Callable[[int], Share]:
        """Label pair after pair; returns the function that gives the win rate of the first n votes."""
        left, cast, prediction = [pair.id for pair in self.pairs], dict[str, Vote](), Prediction(self.pairs)

        def first(count: int) -> Share:
            while len(cast) < count:
                shares = uniform(len(left)) if choose == "random" else informative(prediction.of(left))
                chances = dict(zip(left, shares, strict=True))
                name = draw(chances, self._rng.getrandbits(60))
                left.remove(name)
                cast[name] = Vote("", "me", name, NAMES[self.scores[name]], "a", chances[name])
                prediction.learn(name, self.scores[name])
            some = dict(list(cast.items())[:count])
            return win_rate({"me": Standing(some, some, tuple(some))}, self.pairs)

        return first


def chance(z: float) -> float:
    """1 / (1 + e^-z)"""
    return 1 / (1 + math.exp(-z))


def share_of(slope: float, shift: float, noise: float) -> float:
    """The win rate over all worlds, by quadrature: slope x gap + noise is normal."""
    width = math.hypot(slope, noise)
    points = [(n + 0.5) / 500 - 8 for n in range(8000)]
    weights = [math.exp(-z * z / 2) for z in points]
    mean = math.fsum(w * chance(width * z + shift) for w, z in zip(weights, points, strict=True)) / math.fsum(weights)
    return TIES / 2 + (1 - TIES) * mean


def width(found: Share) -> float:
    """Of the interval."""
    return found.high - found.low


def votes_needed(world: Annotator, wanted: float) -> int:
    """The least number of informative votes, in fives, whose interval is no wider than wanted."""
    first = world.votes("informative")
    return next(n for n in range(10, len(world.pairs) + 1, 5) if width(first(n)) <= wanted)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=400)
    options = parser.parse_args()
    print(
        f"Votes until the interval is that of {VOTES} random votes ({options.worlds} worlds of {options.pairs} pairs)\n"
    )
    print("| world | agreement with the reward | votes, mean ± sd | of the random ones |\n|---|---|---|---|")
    for name, law in WORLDS.items():
        needed, agreed = list[int](), list[float]()
        for seed in range(options.worlds):
            world = Annotator(seed, *law, options.pairs)
            agreed.append(world.agreement())
            needed.append(votes_needed(world, width(world.votes("random")(VOTES))))
        votes = f"{fmean(needed):.0f} ± {stdev(needed):.0f} | {fmean(needed) / VOTES:.0%}"
        print(f"| {name} | {fmean(agreed):.0%} | {votes} |", flush=True)
    print(
        f"\nHow often the 95 % interval holds the share by which votes are made ({options.simulations} simulations)\n"
    )
    print("| world | choice | votes | held | width | mean error |\n|---|---|---|---|---|---|")
    for name, law in WORLDS.items():
        truth = share_of(*law)
        for choose, count in ASKED:
            worlds = (Annotator(seed, *law, options.pairs) for seed in range(1000, 1000 + options.simulations))
            found = [world.votes(choose)(count) for world in worlds]
            held = wilson(fmean(one.low <= truth <= one.high for one in found), len(found))
            errors = [one.mean - truth for one in found]
            error = f"{fmean(errors):+.4f} ± {1.96 * stdev(errors) / math.sqrt(len(errors)):.4f}"
            print(
                f"| {name} | {choose} | {count} | {held.mean:.1%} [{held.low:.1%}, {held.high:.1%}] "
                f"| {fmean(map(width, found)):.3f} | {error} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
