"""The prompts of `rlhf eval`, and the answers of both sides to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf_cli.data.split import fingerprint
from rlhf_cli.errors import UserError
from rlhf_cli.evaluation.sides import Side
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.prompts.rows import Rows, read_all, read_rows, with_evaluations
from rlhf_cli.reporter import Reporter
from rlhf_cli.runs.binding import read_hash
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import PromptRow


@dataclass(frozen=True, slots=True)
class Decoding:
    """The settings of decoding; the default is that of a run's evaluations."""

    temperature: float = 1.0
    """0 is greedy."""
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0


def read_prompts(config: RunConfig, runs: Sequence[Path], overrides: Sequence[str], watch: Reporter) -> Rows:
    """The held-out prompts of the first run; all rows of other data."""
    run = runs[0]
    if any(override.split("=")[0].split(".")[0] == "data" for override in overrides):
        return read_all(config, watch)
    if not config.evaluate.every:
        watch.note("the run was never evaluated, so it may have been trained on these prompts")
    rows = read_rows(with_evaluations(config, 1))
    if config.evaluate.every and read_hash(run, "data") != fingerprint([*rows.train, *rows.held_out]):
        watch.note("the data, or evaluate.prompts, changed since the run: it may have been trained on these prompts")
    for other in runs[1:]:
        if read_hash(other, "data") != read_hash(run, "data"):
            watch.note(f"{other.name} has other prompts than {run.name}, and may have been trained on these")
    return rows


def answer_all(
    configs: Sequence[RunConfig],
    found: Sequence[tuple[Path, Path]],
    rows: Rows,
    decoding: Decoding,
    watch: Reporter,
    *,
    own_reward: bool,
) -> tuple[list[Side], list[PromptRow]]:
    """The answers of both policies, or of the policy and its reference, and the prompts by number.

    `found` has the adapter and the run of each; `own_reward` says whether the reward is that of the first run.
    """
    with watch.phase("loading torch and transformers", 0):
        import_libraries()
        from rlhf_cli.engine.reference import load_models
        from rlhf_cli.functional.sampling import Sampling
        from rlhf_cli.functional.truncation import Truncation
        from rlhf_cli.pipeline.completions import answer
        from rlhf_cli.pipeline.record import note_model, note_reward
        from rlhf_cli.prompts.encoding import encode_held_out
        from rlhf_cli.rewards.execution.scorer import Scorer
    truncation = Truncation(decoding.top_k, decoding.top_p, decoding.min_p)
    sides, prompts = list[Side](), list[PromptRow]()
    with Scorer(configs[0].reward, rows.columns, log=None) as scorer:
        if own_reward:
            note_reward(found[0][1], scorer, watch.note)
        for config, (adapter, run) in zip(configs, found, strict=True):
            with watch.phase("loading the model", 0):
                policy, engine = opened = load_models(config, watch.note)
            note_model(run, policy, watch.note)
            encoded = encode_held_out(rows, policy.encoder, policy.context, config, watch)
            prompts = prompts or [prompt.row for prompt in encoded]
            if [prompt.row for prompt in encoded] != prompts:
                what = "the second model leaves out other prompts than the first, as too long"
                raise UserError(what, where="data.max_prompt_tokens", fix="lower it, so that both leave out the same")
            sampling = Sampling(config.max_new_tokens, decoding.temperature, truncation)
            sides.append(answer(config, adapter, encoded, opened, sampling, scorer, watch))
            if len(configs) == 1:
                sides.append(answer(config, None, encoded, opened, sampling, scorer, watch))
            del policy, engine, opened  # the memory of one model is enough
    return sides, prompts
