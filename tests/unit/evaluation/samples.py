"""Evaluations made by hand, for the tests of all that reads one."""

from __future__ import annotations

from rlhf_cli.evaluation.evaluation import Completions, Evaluation
from rlhf_cli.evaluation.optimum import unknown

NOBODY_KNOWS = unknown("needs at least 21 samples a prompt (evaluate.samples=2)")
LOGPROB = [[-1.0, -2.0], [-3.0, -4.0]]


def evaluation(reward: list[list[float]], step: int = 0, beta: float = 0.5) -> Evaluation:
    """One completion a prompt, with nothing but a reward."""
    ones = [[1.0]] * len(reward)
    kl, length, truncated, texts = [[0.0]] * len(reward), [[1]] * len(reward), [[False]] * len(reward), [["x"]]
    return Evaluation(
        step=step,
        beta=beta,
        prompts=list(range(len(reward))),
        failures=0,
        reward=reward,
        kl=kl,
        length=length,
        truncated=truncated,
        texts=texts * len(reward),
        logprob=ones,
        ref_logprob=ones,
        reference=None,
        optimum=NOBODY_KNOWS,
    )


BEFORE = Evaluation(
    step=0,
    beta=0.5,
    prompts=[0, 1],
    failures=0,
    reward=[[1.0, 3.0], [0.0, 0.0]],
    kl=[[0.0, 0.0], [0.0, 0.0]],
    length=[[4, 6], [2, 8]],
    truncated=[[True, False], [False, False]],
    texts=[["a b a b", "x"], ["a b", "c d"]],
    logprob=LOGPROB,
    ref_logprob=LOGPROB,
    reference=None,
    optimum=NOBODY_KNOWS,
)
AFTER = Evaluation(
    step=4,
    beta=0.5,
    prompts=[0, 1],
    failures=3,
    reward=[[4.0, 6.0], [1.0, 2.0]],
    kl=[[1.0, 3.0], [0.5, 0.5]],
    length=[[10, 10], [9, 11]],
    truncated=[[True, True], [True, False]],
    texts=[["a a a", ""], ["A a", "a"]],
    logprob=[[-1.5, -2.5], [-3.5, -4.5]],
    ref_logprob=LOGPROB,
    reference=Completions([[1.0, 3.0], [0.0, 0.0]], [[-1.25, -2.0], [-3.0, -4.0]], LOGPROB),
    optimum=unknown("too few samples", 1.5, 30.0),
)
