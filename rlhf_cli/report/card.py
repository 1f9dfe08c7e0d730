"""The model card of a merged model: its origin, its figures, and how to load it, as README.md."""

import json
from pathlib import Path

from rlhf_cli.evaluation.intervals import with_error
from rlhf_cli.plural import plural
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
    by = command_to_repeat(run.record, run.config, run.status.verb) or f"rlhf {run.status.verb}"
    steps = run.metrics[-1]["step"] if run.metrics else 0
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in front.items()),
        "---",
        "",
        f"# {run.status.folder.name}",
        "",
        f"{Path(base).name}, trained for {plural(steps, 'step')} by rlhf-cli {packages.get('rlhf-cli', '')}:",
        "",
        f"    {by}",
        "",
        f"The LoRA adapter is merged into the weights ({dtype}).",
        "",
        *_figures(run),
        "## Use it",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        "```",
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _figures(run: SavedRun) -> list[str]:
    """The held-out figures before and after; none where the run was never evaluated."""
    comparison = run.comparison
    if comparison is None or run.last is None:
        return []
    rows = [
        f"| {NAMES[name]} | {comparison.before[name].mean:.3f} | {comparison.after[name].mean:.3f} "
        f"| {with_error(change, 3, '+')} |"
        for name, change in comparison.change.items()
        if name in NAMES
    ]
    return [
        "## Held-out figures",
        "",
        f"{len(run.last.prompts)} prompts that were not trained on, at temperature 1; {subject(run)}.",
        "",
        "| | reference | policy | change, 95 % interval |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
