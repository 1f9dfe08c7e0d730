"""The model card of a merged model: its origin, its figures, and how to load it, as README.md."""

import json
from pathlib import Path

from rlhf_cli.evaluation.intervals import with_error
from rlhf_cli.report.page import render
from rlhf_cli.report.run_page import command_to_repeat, mapping_in, subject
from rlhf_cli.runs.reading import SavedRun

NAMES = {"reward": "reward", "kl": "KL to the reference, nats", "length": "tokens a completion"}
"""The figures of a held-out comparison that the card shows."""


def write_card(folder: Path, run: SavedRun, dtype: str) -> None:
    """Write README.md into the folder of a merged model; raises OSError."""
    model, packages = mapping_in(run.config, "model"), mapping_in(run.record, "packages")
    base = str(model.get("path") or mapping_in(run.record, "model").get("loaded_from"))
    front = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["rlhf-cli", "lora", "merged"]}
    if "/" in base and not base.startswith(("/", "package:")):  # a hub id
        front["base_model"] = base
    card = render(
        "card.md.j2",
        front={key: json.dumps(value) for key, value in front.items()},
        name=run.status.folder.name,
        base=Path(base).name,
        steps=run.metrics[-1]["step"] if run.metrics else 0,
        version=packages.get("rlhf-cli", ""),
        command=command_to_repeat(run.record, run.status.verb) or f"rlhf {run.status.verb}",
        dtype=dtype,
        rows=_figures(run),
        prompts=len(run.last.prompts) if run.last else 0,
        subject=subject(run),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def _figures(run: SavedRun) -> list[tuple[str, str, str, str]]:
    """The held-out figures: name, before, after, change; none where the run was never evaluated."""
    if (comparison := run.comparison) is None:
        return []
    levels = [(name, comparison.before[name].mean, comparison.after[name].mean) for name in NAMES]
    return [
        (NAMES[name], f"{before:.3f}", f"{after:.3f}", with_error(comparison.change[name], 3, "+"))
        for name, before, after in levels
    ]
