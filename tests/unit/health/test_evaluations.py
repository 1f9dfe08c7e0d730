"""The rules that read evaluations: each at its limit and next to it, and its evidence word by word."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest

from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.health.course import WINDOW, Concern, Course, Row
from rlhf_cli.health.evaluations import length_hacking, length_pays, repeated_share, repeats, repetition, reward_parting
from tests.unit.health.samples import CONFIG, evaluation


def compared(first: Evaluation, last: Evaluation) -> Course:
    return Course(CONFIG, first=first, best=first, last=last)


def lengths(mean: int, reward: tuple[int, ...], length: tuple[int, ...] = (2, 2, 1, 1)) -> Evaluation:
    """Four prompts with two completions each, which lie as far above and below the prompt's mean as told."""
    return replace(
        evaluation(40, 0.5),
        prompts=[*range(4)],
        reward=[[5.0 + r, 5.0 - r] for r in reward],
        length=[[mean + n, mean - n] for n in length],
    )


# (2, 2, 1, 1) has the squared norm 10, as these have: correlations of 0.7, 0.6 and -0.7 with it
PAYS, PAYS_LESS, COSTS = (1, 2, 2, -1), (2, 2, -1, -1), (-1, -2, -2, 1)
SHORT = "a reward that short texts cannot win"


class TestLengthHacking:
    @pytest.mark.parametrize(
        ("before", "after", "reward", "override"),
        [
            (20, 30, PAYS, "reward.length_penalty=0.01"),
            (20, 29, PAYS, None),
            (20, 30, PAYS_LESS, None),
            (20, 30, COSTS, None),
            (30, 20, COSTS, SHORT),
            (30, 21, COSTS, None),
            (30, 20, PAYS, None),
            (30, 20, tuple(-r for r in PAYS_LESS), None),
        ],
    )
    def test_limits(self, before: int, after: int, reward: tuple[int, ...], override: str | None) -> None:
        first, last = lengths(before, reward), lengths(after, reward)
        evidence = f"length {before} -> {after} tokens in the evaluation of step 40, and its correlation with the "
        evidence += f"reward of a prompt's completions is {'+' if reward is PAYS else '-'}0.70"
        assert length_hacking(compared(first, last)) == (Concern(evidence, override) if override else None)

    def test_texts_of_less_than_a_token(self) -> None:
        first = lengths(0, (1, 1, 1, 1), (0, 0, 0, 0))
        first.length[0][0] = 4  # half a token on average
        assert length_hacking(compared(first, lengths(1, (1, 1, 1, 1), (1, 1, 1, 1)))) is not None

    def test_without_one_of_two_evaluations_it_is_silent(self) -> None:
        first, last = lengths(20, PAYS), lengths(30, PAYS)
        assert length_hacking(Course(CONFIG, last=last)) is None
        assert length_hacking(Course(CONFIG, first=first)) is None

    @pytest.mark.parametrize(("reward", "length"), [((0, 0, 0, 0), (1, 1, 1, 1)), ((1, 1, 1, 1), (0, 0, 0, 0))])
    def test_without_a_spread_there_is_no_correlation(self, reward: tuple[int, ...], length: tuple[int, ...]) -> None:
        assert length_pays(lengths(20, reward, length)) is None

    def test_a_small_spread_has_a_correlation_too(self) -> None:
        # 2 completions of one prompt, 1 token and 0.5 apart: 2 * 0.25^2 * 2 * 0.5^2 = 1/16
        assert length_pays(replace(lengths(20, PAYS), reward=[[0.5, 0.0]], length=[[5, 4]])) == 1.0


class TestRepetition:
    @pytest.mark.parametrize(
        ("text", "share"),
        [
            ("", 0.0),
            ("abc", 0.0),
            ("abcd", 0.0),
            ("abcdabcd", 0.2),  # abcd, bcda, cdab, dabc, abcd
            ("aaaaabc", 0.25),
            ("aaaaa", 0.5),
        ],
    )
    def test_the_share_by_hand(self, text: str, share: float) -> None:
        assert repeats(text) == pytest.approx(share)

    def test_characters_behind_the_first_two_hundred_are_not_read(self) -> None:
        different = "".join(chr(1000 + n) for n in range(193))
        assert repeats(f"aaaa{different}aaa") == 0.0
        assert repeats(f"aaaa{different}aaaa") == 0.0  # the 201st character would make the first four again

    def test_the_mean_is_over_texts(self) -> None:
        assert repeated_share(replace(evaluation(0, 0.5), texts=[["aaaaa", "abcd"], ["abcd", "abcd"]])) == 0.125

    @pytest.mark.parametrize(
        ("before", "after", "repeated"),
        [
            ("aaaaabc", "aaaaa", True),  # 1/4 and 1/2
            ("aaaaabc", "aaaaaabc", False),  # 2/5
            ("abcdabc", "aaaaaabc", False),
            ("aaaaa", "aaaaa", False),
            ("aaaaaabc", "aaaaa", False),
            ("aaaaa", "aaaaaaa", True),  # 1/2 and 3/4
        ],
    )
    def test_limits(self, before: str, after: str, repeated: bool) -> None:
        found = repetition(compared(evaluation(0, 0.5, text=before), evaluation(40, 0.5, text=after)))
        assert (found is not None) == repeated

    def test_evidence(self) -> None:
        found = repetition(compared(evaluation(0, 0.5, text="aaaaabc"), evaluation(40, 0.5, text="aaaaa")))
        evidence = "50% of a text repeats itself in the evaluation of step 40; 25% at first"
        assert found == Concern(evidence, "beta=0.2")

    def test_without_one_of_two_evaluations_it_is_silent(self) -> None:
        repeated = evaluation(40, 0.5, text="aaaaa")
        assert repetition(Course(CONFIG, last=repeated)) is None
        assert repetition(Course(CONFIG, first=repeated)) is None


def moved(of: Evaluation, by: float) -> Evaluation:
    """The rewards of every other prompt are so much higher, and the others so much lower."""
    signs = zip(of.prompts, of.reward, strict=True)
    return replace(of, reward=[[reward + by * (-1) ** prompt for reward in group] for prompt, group in signs])


class TestRewardParting:
    def course(
        self, held_out: Evaluation | None, gain: float = 3.0, learned: int = 15, error: float | None = 1.0
    ) -> Course:
        """The reward of training rises by so many standard errors; held out it was 1 at first, and 2 at best."""
        first, now = {"reward/mean": 0.0, "reward/mean_se": 0.0}, {"reward/mean": gain, "reward/mean_se": error}
        before = evaluation(0, 1.0), evaluation(20, 2.0)
        recent: deque[Row] = deque([now], maxlen=WINDOW)
        return Course(CONFIG, 40, learned, start=[first], recent=recent, first=before[0], best=before[1], last=held_out)

    def test_evidence(self) -> None:
        override = "more prompts in data, or fewer steps (checkpoints/best)"
        evidence = "held-out reward -0.25 from step 0 to 40, while that of training went from 0 (first 5 steps) to 3 "
        evidence += "(last 10)"
        assert reward_parting(self.course(moved(evaluation(40, 0.75), 0.02))) == Concern(evidence, override)
        evidence = evidence.replace("-0.25 from step 0", "-0.75 from step 20")
        assert reward_parting(self.course(moved(evaluation(40, 1.25), 0.02))) == Concern(evidence, override)

    @pytest.mark.parametrize(("gain", "learned"), [(2.9, 15), (3.0, 14)])
    def test_limits_of_the_training(self, gain: float, learned: int) -> None:
        assert reward_parting(self.course(evaluation(40, 0.75), gain, learned)) is None

    def test_a_held_out_reward_that_stays_is_no_fall(self) -> None:
        assert reward_parting(self.course(evaluation(40, 2.0))) is None

    def test_a_fall_within_its_interval_is_none(self) -> None:
        assert reward_parting(self.course(moved(evaluation(40, 0.9), 2.0))) is None

    def test_without_what_it_compares_it_is_silent(self) -> None:
        assert reward_parting(self.course(None)) is None
        assert reward_parting(self.course(evaluation(40, 0.75), error=None)) is None
        known = self.course(evaluation(40, 0.75))
        assert reward_parting(replace(known, first=None, best=None)) is None
        assert reward_parting(replace(known, first=None)) is not None

    @pytest.mark.parametrize(("common", "falls"), [(2, True), (1, False)])
    def test_two_prompts_in_common_are_enough(self, common: int, falls: bool) -> None:
        last = replace(evaluation(40, 0.75), prompts=[n if n < common else 90 + n for n in range(8)])
        assert (reward_parting(self.course(last)) is not None) == falls
