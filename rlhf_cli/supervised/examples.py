"""The examples of a run: rows as token ids, and which of them belong to which step."""

from collections import Counter
from collections.abc import Hashable

from rlhf_cli.models.policy import Policy
from rlhf_cli.prompts.encoding import Encode, Encoded, Fit, encode_rows, note_cuts, note_oddities
from rlhf_cli.prompts.rows import Rows
from rlhf_cli.reporter import Reporter
from rlhf_cli.supervised.batches import Example
from rlhf_cli.supervised.lessons import read_lesson
from rlhf_cli.supervised.objectives.bradley_terry import BradleyTerry
from rlhf_cli.supervised.settings import SupervisedConfig
from rlhf_cli.supervised.texts import completions_encoder, oddity, texts_encoder, written_header
from rlhf_cli.types import PromptRow

Examples = Encoded[Example]
"""The training examples of a run."""


def encode_examples(
    rows: Rows, policy: Policy, config: SupervisedConfig, reporter: Reporter
) -> tuple[Examples, tuple[Example, ...]]:
    """Encode the training examples that the run will use, and the held-out ones; note the rows that were left out.

    Raises UserError (exit 3) for a row that is no example or too long, and where too few are left.
    """
    fits = [Fit.of(part.data, policy.encoder, policy.context, config.max_new_tokens) for part in rows.parts]
    encoders, reasons = [_encoder(fit, policy, config) for fit in fits], ["too long"] * len(fits)
    found, held_out = encode_rows(rows, encoders, reasons, config, reporter, "rows", lambda row: _content(row, config))
    examples = [*found.encoded.values(), *held_out]
    if not isinstance(config.objective, BradleyTerry):  # its prompt is what both texts begin with
        prompts = [example.prompt for example in examples]
        note_oddities(policy.encoder, Counter(map(policy.encoder.oddity, prompts)), reporter)
        if margins := sum(example.lesson.margin > 0 for example in examples):
            reporter.note(f"{margins} of {len(examples)} rows have a margin, of which only rlhf reward train learns")
    note_cuts(fits, len(examples), reporter)
    header, scored = written_header(config.objective, policy), config.objective.scores
    for what, count in Counter(oddity(example, policy, header, scored=scored) for example in examples).items():
        if what is not None:
            reporter.note(f"{count} of {len(examples)} rows {what}")
    return found, held_out


def _content(row: PromptRow, config: SupervisedConfig) -> Hashable:
    """The texts that are learnt from a row: another completion of the same prompt is another example."""
    return row.prompt, read_lesson(row, config.objective).texts


def _encoder(fit: Fit, policy: Policy, config: SupervisedConfig) -> Encode[Example]:
    """The function that encodes rows as the objective reads them."""
    objective = config.objective
    if isinstance(objective, BradleyTerry):
        return texts_encoder(objective, policy, fit, config.max_new_tokens)
    return completions_encoder(objective, policy, fit, config.max_new_tokens)
