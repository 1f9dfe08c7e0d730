"""Do what is left of a round of feedback: samples, votes, the reward model, the policy, and its true reward."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from rlhf_cli.commands.parts import ready, running
from rlhf_cli.commands.parts.pairing import held_out_rows
from rlhf_cli.commands.parts.running import C, R, Trainer
from rlhf_cli.commands.parts.supervising import trainer_of
from rlhf_cli.commands.training.train import TRAINER
from rlhf_cli.config.arguments import quote
from rlhf_cli.config.jobs import compose_config, compose_for
from rlhf_cli.display.watchers import progress
from rlhf_cli.errors import EXIT_DATA, Stopped, UserError
from rlhf_cli.feedback.annotator import annotate
from rlhf_cli.feedback.export import preferences, write_preferences
from rlhf_cli.feedback.pairs import read_pairs, write_rows
from rlhf_cli.feedback.votes import VoteFile
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.paths import quoted
from rlhf_cli.plural import plural
from rlhf_cli.prompts.rows import Rows
from rlhf_cli.rounds.folder import FeedbackSettings, Round
from rlhf_cli.rounds.truth import read_truth, write_truth
from rlhf_cli.runs.folder import RESULT
from rlhf_cli.runs.listing import read_status
from rlhf_cli.runs.reading import read_evaluations
from rlhf_cli.runs.resume import has_run
from rlhf_cli.schema import RunConfig
from rlhf_cli.supervised.settings import SupervisedConfig
from rlhf_cli.verbs import REWARD_TRAIN

SHARED = ("model", "seed", "device", "dtype", "threads", "sinks", "time_limit", "display")
"""Settings that a reward model takes from the policy."""


def do_round(
    one: Round, so_far: Sequence[Round], config: RunConfig, rows: Rows, settings: FeedbackSettings, begun: float
) -> None:
    """Do what is left of a round, the last of `so_far`; each step is on disk before the next begins.

    The reward of `config` is the hidden one. Raises Stopped where people have to vote first.
    """
    one.folder.mkdir(exist_ok=True)
    if not one.pairs.exists():
        _say(one, "samples")
        _sample(one, so_far, config, rows, settings)
    if not one.preferences.exists():
        _say(one, "simulated votes" if settings.simulated else "votes")
        _vote(one, settings, config.seed)
        asked = [(VoteFile(each.pairs).read(), read_pairs(each.pairs)) for each in so_far]
        with _open_for_more_votes(one, settings):
            write_preferences(preferences(asked), one.preferences)
    if not _has_finished(one.reward_model):
        _say(one, "the reward model")
        own = reward_model_config(one, config, settings.reward_model)
        with _open_for_more_votes(one, settings):
            ready.check_new_training(own, REWARD_TRAIN)
        running.start(_in_round(trainer_of(REWARD_TRAIN)), own, begun)
    if not _has_finished(one.policy):
        _say(one, "the policy")
        policy = policy_config(one, config)
        ready.check_new_run(policy, checked=[])
        running.start(_in_round(TRAINER), policy, begun)
    if settings.simulated and not read_truth(one.truth):
        from rlhf_cli.rounds.scoring import measure_truth

        evaluations = read_evaluations(one.policy)
        write_truth(one.truth, measure_truth(config, rows, held_out_rows(one.policy), evaluations))


@contextmanager
def _open_for_more_votes(one: Round, settings: FeedbackSettings) -> Iterator[None]:
    """If the votes are too few for a reward model, say how there will be more, and let the round read them again."""
    try:
        yield
    except UserError as error:
        if error.exit_code == EXIT_DATA and not has_run(one.reward_model):
            one.preferences.unlink(missing_ok=True)
            error.where, error.fix = str(one.pairs), "begin in a new folder, with more --pairs"
            if not settings.simulated:
                error.fix = f"let somebody else vote too, then give this command again: {_label(one)} --rater NAME"
        raise


def _label(one: Round) -> str:
    """The command that asks for votes on the pairs of a round."""
    return f"rlhf label {quoted(one.pairs)}"


def _in_round(trainer: Trainer[C, R]) -> Trainer[C, R]:
    """The same without the commands that may follow one run: the round goes on by itself."""
    return replace(trainer, show=partial(trainer.show, following=False))


def reward_model_config(one: Round, config: RunConfig, overrides: Sequence[str]) -> SupervisedConfig:
    """The settings of a round's reward model: those of its overrides, with the policy's own model, on all votes."""
    preset = ["config=tiny"] if config.model.kind == "tiny" else []
    data = ["data=jsonl", f"data.path={quote(str(one.preferences))}"]
    own = compose_for(REWARD_TRAIN, [*preset, *overrides, *data])
    shared = {name: getattr(config, name) for name in SHARED}
    return own.model_copy(update={**shared, "run_dir": str(one.reward_model), "resume": "auto"})


def policy_config(one: Round, config: RunConfig) -> RunConfig:
    """The settings of a round's policy: those of the config, shaping included, but trained from the reward model."""
    own = compose_config(["config=tiny", "reward=model", f"reward.path={quote(str(one.reward_model))}"]).reward
    reward = config.reward.model_copy(update={"source": own.source})
    return config.model_copy(update={"reward": reward, "run_dir": str(one.policy), "resume": "auto"})


def _sample(one: Round, so_far: Sequence[Round], config: RunConfig, rows: Rows, settings: FeedbackSettings) -> None:
    """Write the pairs of a round: by the policy of the round before, in the first round by the reference."""
    watch = progress(config.display)
    with watch.phase("loading torch and transformers", 0):
        import_libraries()
        from rlhf_cli.rounds.sampling import sample_pairs
        from rlhf_cli.rounds.scoring import plain_rows, scored_rows
    adapter = so_far[-2].adapter if len(so_far) > 1 else None
    answers = sample_pairs(config, rows, one.number, settings.pairs, adapter, watch)
    write_rows(one.pairs, scored_rows(config, rows, answers) if settings.simulated else plain_rows(answers))


def _vote(one: Round, settings: FeedbackSettings, seed: int) -> None:
    """Let the simulated annotator vote; raises Stopped where people still have to."""
    pairs, votes = read_pairs(one.pairs), VoteFile(one.pairs)
    if settings.simulated:
        annotate(pairs, votes, settings.simulated, seed)
        return
    cast = votes.read()
    voted = {pair for rater in cast.raters() for pair in cast.of(rater).valid}
    if left := sum(pair.id not in voted and not pair.is_same for pair in pairs):
        what = f"no vote yet on {plural(left, 'pair')} of round {one.number}: {_label(one)}"
        raise Stopped(what, resumable=True)


def _has_finished(run: Path) -> bool:
    """Whether the run in the folder has ended, with all that it leaves."""
    return (run / RESULT).is_file() and read_status(run).state == "finished"


def _say(one: Round, what: str) -> None:
    print(f"round {one.number}: {what}", file=sys.stderr)
