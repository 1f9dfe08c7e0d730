"""Print what one step of a run showed, and whether to go."""

from pathlib import Path
from typing import Final

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.display.words import flat
from rlhf_cli.errors import visible
from rlhf_cli.plural import plural
from rlhf_cli.schema import RunConfig
from rlhf_cli.verify.trial import Trial

SHARE: Final = 0.03
"""Smallest share of a step's time at which a phase is shown."""


def show_trial(trial: Trial, config: RunConfig) -> None:
    """Print the report of a run with these settings."""
    metrics, model, steps = trial.metrics, trial.model, plural(config.steps, "step")
    name = Path(config.model.path).name if config.model.kind == "pretrained" else config.model.kind
    digits = 1 if trial.step_s >= 1 else 3
    long = {name: value for name, value in trial.seconds.items() if value >= SHARE * trial.step_s}
    phases = ", ".join(f"{name} {value:.{digits}f}" for name, value in long.items())
    rows = {
        "model": f"{name}: {model['parameters']:,} weights, {model['trained']:,} of them trained",
        "runs on": f"{model['device']}, {model['dtype']}, engine {model['engine']}, threads {model['threads']}",
        "prompt": flat(trial.prompt),
        "stops at": flat(" ".join(map(repr, trial.stops))),
        "completion": flat(trial.completion),
        "its score": f"{trial.score:.3f}",
        "reward": f"{metrics['reward/mean']:.3f} ± {metrics['reward/mean_se']:.3f} (standard error); "
        f"{metrics['reward/same_in_group']:.0%} of the prompts without a difference",
        "length": f"{metrics['completion/length']:.1f} tokens; {metrics['completion/truncated']:.0%} cut",
        "gradient": f"norm {trial.gradient_norm:.3g}",
        "time": f"{trial.step_s:.{digits}f} s a step ({phases}); about {_duration(trial.total_s)} for {steps}",
        "memory": f"{trial.measured_mib:,} MiB here, {trial.predicted_mib:,} predicted with evaluations",
        "disk": f"{trial.checkpoints_mib:,.1f} MiB of checkpoints",
    }
    console = ResultConsole()
    for label, text in rows.items():
        console.print_fact(label, visible(text))
    for doubt in trial.doubts:
        console.print_fact("look at", visible(doubt))
    for reason in trial.reasons:
        console.print_fact("no-go", visible(reason))
    if not trial.reasons:
        console.print("go")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
