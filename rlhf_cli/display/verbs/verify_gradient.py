"""Print how the expected update of a run compares with the exact gradient, and the verdict."""

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.plural import plural
from rlhf_cli.verify.gradient import EXACT, LENGTH, Comparison, Verification


def show_verification(found: Verification) -> None:
    """Print the report on stdout."""
    completions = plural(found.group, "completion")
    rows = [
        ("run", f"{found.algorithm}, kl={found.kl}, beta {found.beta:g}, temperature {found.temperature:g}"),
        ("maximises", f"J = {found.objective}"),
        ("steps", f"all {found.steps} that there are: one prompt, {completions} of up to {LENGTH} tokens"),
        ("update", _beside(found.first, found.size if found.without is None else None)),
    ]
    if found.later is not None:
        rows.append(("a later one", _beside(found.later, None)))
    for bias in found.biases:
        rows.append(("because", f"{bias.key}: {bias.meaning}; alone {_error(bias.relative_error)} ({bias.page})"))
    if found.without is not None:
        rows.append(("without", f"these settings: {_beside(found.without, found.size)}"))
    console = ResultConsole()
    for label, text in rows:
        console.print_fact(label, text, 12)
    console.print_fact("verdict", found.verdict, 12)


def _beside(comparison: Comparison, size: float | None) -> str:
    """The comparison in words; `size`: the documented norm ratio, where there is one."""
    right = size is not None and abs(comparison.norm_ratio / size - 1) <= EXACT
    due = "" if size is None else f", as documented ({size:.4g})" if right else f" ({size:.4g} is documented)"
    cosine = f"cosine {comparison.cosine:.4f}"
    return f"{_error(comparison.relative_error)}, {cosine}, length {comparison.norm_ratio:.4g} of the gradient's{due}"


def _error(error: float) -> str:
    """The relative error in words."""
    return f"exact to {error:.1g}" if error <= EXACT else f"{error:.2%} off"
