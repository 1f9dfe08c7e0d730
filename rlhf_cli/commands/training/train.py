"""`rlhf train`: start a run or a sweep (-m), or resume a run (resume=)."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from rlhf_cli.commands.parts import ready, running
from rlhf_cli.commands.parts.resuming import read_result
from rlhf_cli.commands.parts.running import Trainer
from rlhf_cli.commands.parts.searching import run_search
from rlhf_cli.commands.parts.sweeping import open_sweep
from rlhf_cli.config.launch import launch
from rlhf_cli.display.tables import show_result
from rlhf_cli.errors import EXIT_DONE, UserError
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.ranks.children import place
from rlhf_cli.rewards.columns import check_rows
from rlhf_cli.rewards.execution.scorer import Scorer
from rlhf_cli.runs.folder import REWARD_LOG
from rlhf_cli.runs.result import Result
from rlhf_cli.runs.resume import Origin, read_config
from rlhf_cli.schema import RunConfig
from rlhf_cli.verbs import TRAIN


def main(argv: list[str]) -> int:
    """Start or resume the run or the sweep; refuse mistakes before any folder is made.

    A process of a rank above 0 works for the run's first process instead.
    """
    begun = time.monotonic()
    rank, size = place()
    if rank:
        from rlhf_cli.ranks.duties import DUTIES
        from rlhf_cli.ranks.worker import serve

        return serve(rank, size, DUTIES)
    if size > 1 and {"-m", "--multirun"} & {*argv}:
        raise UserError("torchrun starts one run, -m starts many", fix="rlhf train -m processes=N, without torchrun")
    if not running.resume(TRAINER, argv, begun):
        check = partial(ready.check_new_run, checked=[])
        launch(argv, partial(running.start_job, TRAINER, begun), check=check, sweep=open_sweep, search=run_search)
    return EXIT_DONE


def _train(
    config: RunConfig, folder: Path, origin: Origin | None, signals: StopSignals, command: Sequence[str]
) -> Result:
    title = f"{config.algorithm.kind} · {running.model_name(config)} · {config.reward.source.kind}"
    check = partial(check_rows, config.reward.source)
    watched = running.watched(TRAIN, config, folder, origin, signals, title=title, check=check)
    with watched as (config, rows, watch, wait), Scorer(config.reward, rows.columns, folder / REWARD_LOG) as scorer:
        with watch.phase("loading torch and transformers", 0):
            import_libraries(makes_room=config.makes_room)
            from rlhf_cli.pipeline.assemble import assemble
            from rlhf_cli.pipeline.conclude import conclude
            from rlhf_cli.pipeline.loop import train
        run = assemble(config, rows, folder, scorer, watch, signals, origin, command, wait())
        train(run)
        return conclude(run)


def _read_final_result(config: RunConfig, origin: Origin | None) -> Result | None:
    """Read the result of a run with nothing left to do; None where a step or the conclusion is missing."""
    if origin is None or (result := read_result(Result, origin)) is None:
        return None
    saved = read_config(origin.folder, origin.checkpoint).get("stop")
    is_stopped = result.stopped is not None and saved == config.stop.model_dump(mode="json")
    return result if result.step >= config.steps or is_stopped else None


TRAINER: Final = Trainer(TRAIN, ready.check_sources, _read_final_result, _train, show_result)
"""Training by reinforcement learning."""
