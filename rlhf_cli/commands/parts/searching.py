"""Run the trials of a search (`hydra/sweeper=optuna`): each is chosen when a process is free for it."""

from dataclasses import replace
from pathlib import Path

from rlhf_cli.commands.parts.sweeping import job_of, keep_threads, open_slots, work_on
from rlhf_cli.config.launch import TrialOf
from rlhf_cli.config.search import SearchPlan
from rlhf_cli.display.sweep import show_trials
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.sweep.launchers import Launcher
from rlhf_cli.sweep.outcome import read_curve, why_pruned
from rlhf_cli.sweep.pool import Job, Pool, Standing
from rlhf_cli.sweep.record import SweepRecord, Trial, name_of
from rlhf_cli.sweep.study import Asked, Study


def run_search(sweep: SweepRecord, plan: SearchPlan, trial_of: TrialOf, launcher: Launcher) -> None:
    """Run a search in the sweep's folder, or go on with it, and show the answer; raises as `open_sweep` does."""
    first = trial_of({one.key: one.texts_to_check()[0] for one in plan.space}, ()).config
    with work_on(sweep) as work:
        work.display, threads = first.display, keep_threads(sweep, first.jobs or 1)
        trials, signals = _Trials(sweep.folder, plan, trial_of, first.seed), StopSignals()
        slots = open_slots(launcher, sweep.folder, first.device, first.jobs, 1, threads)
        shown = show_trials(first.display, plan.settings.trials)
        with signals.installed(), signals.polled(), slots as (free, start), shown as show:
            work.standings += Pool((), free, show, signals.check, start, trials.ask, trials.tell).run()


class _Trials:
    """The trials of a search: those that a killed one left, then those that its study asks for."""

    def __init__(self, folder: Path, plan: SearchPlan, trial_of: TrialOf, seed: int) -> None:
        assert plan.beta is not None  # the record of the sweep has it
        self._folder, self._trial_of = folder, trial_of
        self._study = Study(folder, plan.settings, plan.space, plan.beta, seed)
        self._left = self._study.running()
        self._asked: dict[Path, Asked] = {}

    def ask(self) -> Job | None:
        """The next trial, which sweep.json lists from now on; None where the search has all."""
        asked = self._left.pop(0) if self._left else self._study.ask()
        if asked is None:
            return None
        launch = self._trial_of(asked.texts, asked.floor)
        folder = Path(str(launch.config.run_dir))
        trial = Trial(folder.name, asked.told, launch.config.steps)
        record = SweepRecord.read(self._folder)
        assert record is not None  # written when the search began
        if all(known.name != trial.name for known in record.trials):
            replace(record, trials=(*record.trials, trial)).write()
        self._asked[folder] = asked
        return job_of(launch, name_of(trial.told), asked.number + 1)

    def tell(self, standing: Standing) -> None:
        """Keep the result of a trial; one that failed or was stopped has none, and runs again with the same command."""
        folder = standing.job.folder
        if standing.state == "finished" and (curve := read_curve(folder)):
            self._study.tell(self._asked[folder].number, curve, pruned=why_pruned(folder) is not None)
