"""End a run: export the adapter or the reward model, and compare it with the untouched model on the held-out rows."""

from rlhf_cli.pipeline.record import write_end
from rlhf_cli.pipeline.state import load
from rlhf_cli.plural import plural
from rlhf_cli.runs.binding import bind, read_record
from rlhf_cli.runs.checkpoint import folder_of, why_invalid
from rlhf_cli.runs.folder import CHECKPOINTS, EVALUATIONS, RESULT
from rlhf_cli.runs.reading import why_not_compared
from rlhf_cli.supervised.evaluation import read_evaluations
from rlhf_cli.supervised.held_out import evaluate
from rlhf_cli.supervised.objectives.bradley_terry import BradleyTerry
from rlhf_cli.supervised.result import SupervisedResult, changes, reliability_of
from rlhf_cli.supervised.run import SupervisedRun, has_stalled


def evaluate_end(run: SupervisedRun) -> None:
    """Evaluate the model of the last step where none was due, as a resume lowered the steps to one that is done.

    This evaluation has no line in metrics.jsonl, and a run that goes on from here does without it.
    """
    step, config = run.state.step, run.config
    if config.evaluate.every and step not in read_evaluations(run.folder, config.objective):
        run.logbook.evaluation(evaluate(run, step).content())


def conclude(run: SupervisedRun) -> SupervisedResult:
    """Export the last step, or with `patience` the best one if its checkpoint is still there, and write result.json.

    The weights of a reward model are then those of the exported step.
    """
    config, state, objective = run.config, run.state, run.config.objective
    stalled = config.patience if state.step < config.steps and has_stalled(run) else None
    best = state.step if config.patience is None or state.best is None else state.best.step
    checkpoint = folder_of(run.folder / CHECKPOINTS, best)
    reason = why_invalid(checkpoint)
    exported = state.step if reason else best
    if stalled or best != state.step:
        which = f"the exported adapter is that of step {exported}, which has the lowest held-out loss"
        if reason:
            which = f"the last adapter is exported, as the checkpoint of the best step, {best}, is gone ({reason})"
        if stalled:
            tried = plural(stalled, "evaluation")
            which = f"ended after step {state.step}, without a lower held-out loss in {tried}: {which}"
        run.work.reporter.note(which)
    run.saver.export_adapter(exported)
    if isinstance(objective, BradleyTerry):
        if exported != state.step:
            load(checkpoint, run.policy, run.optimizer)
        run.saver.export_reward_model(run.policy, objective.reads)
    evaluations = read_evaluations(run.folder, objective)
    before, after = evaluations.get(0), evaluations.get(exported)
    if config.evaluate.every and not (before and after):
        run.work.reporter.note(f"nothing to compare: {why_not_compared(read_record(run.folder))}")
    compared = (before, after) if before and after else None
    last = evaluations.get(state.step)
    if state.step and before and last and before.columns["loss"] == last.columns["loss"]:
        what = f"nothing was learned: after step {state.step} every held-out loss is that of the untouched model"
        run.work.reporter.note(f"{what} to the last bit; see optimizer.lr, and grad_norm in metrics.jsonl")
    result = SupervisedResult(
        task=objective.kind,
        step=state.step,
        exported=exported,
        best=state.best.step if state.best else None,
        stalled=stalled,
        held_out=len(run.held_out),
        before=objective.intervals(compared[0].columns) if compared else {},
        after=objective.intervals(compared[1].columns) if compared else {},
        change=changes(objective, *compared) if compared else {},
        reliability=reliability_of(objective, compared[1]) if compared else (),
    )
    result.write(run.folder)
    bind(run.folder, RESULT, EVALUATIONS)
    write_end(run.folder, run.policy.device, [example.prompt.row.shown for example in run.held_out])
    return result
