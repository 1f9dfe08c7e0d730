"""Start or resume a run of supervised training: the part that `sft`, `dpo` and `reward train` share."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rlhf_cli.commands.parts import ready, running
from rlhf_cli.commands.parts.resuming import read_result
from rlhf_cli.commands.parts.running import Trainer
from rlhf_cli.config.launch import launch_one
from rlhf_cli.display.dashboard import LOSSES, PAIRS
from rlhf_cli.display.tables import show_losses
from rlhf_cli.errors import EXIT_DONE
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.ranks.children import place
from rlhf_cli.runs.resume import Origin
from rlhf_cli.supervised.lessons import check_lessons
from rlhf_cli.supervised.result import SupervisedResult
from rlhf_cli.supervised.settings import SupervisedConfig
from rlhf_cli.verbs import Verb

SupervisedVerb = Verb[SupervisedConfig]


def run_verb(verb: SupervisedVerb, argv: Sequence[str]) -> int:
    """Start or resume the run of a command line, `verb` left out; refuse mistakes before any folder is made.

    A process of a rank above 0 works for the run's first process instead.
    """
    begun, trainer = time.monotonic(), trainer_of(verb)
    rank, size = place()
    if rank:
        from rlhf_cli.ranks.worker import serve
        from rlhf_cli.supervised.duties import DUTIES

        return serve(rank, size, DUTIES)
    if not running.resume(trainer, argv, begun):
        check = partial(ready.check_new_training, verb=verb)
        launch_one(verb, argv, partial(running.start_job, trainer, begun), check=check)
    return EXIT_DONE


def trainer_of(verb: SupervisedVerb) -> Trainer[SupervisedConfig, SupervisedResult]:
    """Return how a verb of supervised training trains."""
    return Trainer(verb, ready.check_model, _read_final_result, partial(_train, verb), show_losses)


def _read_final_result(config: SupervisedConfig, origin: Origin | None) -> SupervisedResult | None:
    """Read the result of a run with nothing left to do; None where a step or the conclusion is missing."""
    if (result := read_result(SupervisedResult, origin)) is None:
        return None
    has_stalled = result.stalled is not None and result.stalled == config.patience
    exports_same = result.exported == (result.step if config.patience is None else result.best)
    return result if exports_same and (result.step >= config.steps or has_stalled) else None


def _train(
    verb: SupervisedVerb,
    config: SupervisedConfig,
    folder: Path,
    origin: Origin | None,
    signals: StopSignals,
    command: Sequence[str],
) -> SupervisedResult:
    check = partial(check_lessons, objective=config.objective)
    title = f"{verb.words} · {running.model_name(config)}"
    curves = LOSSES if config.objective.completions == 1 else PAIRS
    watched = running.watched(verb, config, folder, origin, signals, title=title, check=check, curves=curves)
    with watched as (config, rows, watch, wait):
        with watch.phase("loading torch and transformers", 0):
            import_libraries()
            from rlhf_cli.supervised.assemble import assemble
            from rlhf_cli.supervised.conclude import conclude
            from rlhf_cli.supervised.loop import train
        run = assemble(config, rows, folder, watch, signals, origin, command, wait())
        train(run)
        return conclude(run)
