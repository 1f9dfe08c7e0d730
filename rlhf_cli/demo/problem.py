"""A small problem with known answers: every completion of a few prompts is listed and has a score."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_cli.engine.tabular import TabularEngine


@dataclass(frozen=True, slots=True)
class Problem:
    """Maximise E[r] - beta KL(policy || reference) over completions that can all be listed."""

    reference: Tensor
    """Logits of the reference [P, S, V], float64."""
    scores: Tensor
    """Score by prompt and final state [P, states], float64."""
    beta: float
    temperature: float = 1.0
    end: int | None = None

    def engine(self) -> TabularEngine:
        """A policy that is still the reference."""
        return TabularEngine(self.reference, self.end)

    def scores_of(self, engine: TabularEngine) -> Tensor:
        """The score of every completion, [P, C], in the order of `engine.all_completions`."""
        return self._listed(engine)[2]

    def objective(self, engine: TabularEngine) -> Tensor:
        """J of the policy, exactly, by summing over every completion; differentiable."""
        policy, reference, scores = self._listed(engine)
        penalised = scores - self.beta * (policy - reference)
        return (policy.exp() * penalised).sum(1).mean()

    def kl(self, engine: TabularEngine) -> float:
        """KL(policy || reference), nats a completion, averaged over prompts."""
        policy, reference, _ = self._listed(engine)
        return float((policy.exp() * (policy - reference)).sum(1).mean().detach())

    def optimum(self) -> Tensor:
        """log pi* of every completion, [P, C]: pi*(y) = pi_ref(y) exp(r / beta) / Z."""
        _, reference, scores = self._listed(self.engine())
        return torch.log_softmax(reference + scores / self.beta, 1)

    def best(self) -> float:
        """J*, the largest J there is: beta E_x log Z(x)."""
        _, reference, scores = self._listed(self.engine())
        return float(self.beta * torch.logsumexp(reference + scores / self.beta, 1).mean())

    def percent(self, engine: TabularEngine) -> float:
        """Percent of the gap between the reference's J and J* that the policy has closed; at most 100."""
        start = float(self.objective(self.engine()).detach())
        return 100 * (float(self.objective(engine).detach()) - start) / (self.best() - start)

    def _listed(self, engine: TabularEngine) -> tuple[Tensor, Tensor, Tensor]:
        """log pi (differentiable), log pi_ref and score of every completion, each [P, C]."""
        rollout, prompts = engine.all_completions(self.temperature), len(self.reference)
        return (
            engine.sequence_logprobs(rollout).view(prompts, -1),
            engine.sequence_logprobs(rollout, reference=True).view(prompts, -1).detach(),
            self.scores.gather(1, engine.final_states(rollout).view(prompts, -1)),
        )


def random_problem(
    *, prompts: int, steps: int, tokens: int, beta: float, seed: int, spread: float = 1.0, end: int | None = None
) -> Problem:
    """Reference logits and scores from a normal distribution; the scores have standard deviation `spread`."""
    states = (tokens**steps - 1) // (tokens - 1)
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(prompts, states, tokens, dtype=torch.float64, generator=generator)
    scores = torch.randn(prompts, states * tokens + 1, dtype=torch.float64, generator=generator) * spread
    return Problem(reference, scores, beta, end=end)
