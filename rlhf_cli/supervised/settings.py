"""SupervisedConfig: everything that one run of `rlhf sft`, `rlhf dpo` or `rlhf reward train` depends on."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from rlhf_cli.data.conversion import MESSAGES
from rlhf_cli.data.template import column_names
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.settings import Free
from rlhf_cli.supervised.objectives import Objective


class SupervisedConfig(TrainingConfig):
    """One run of training on fixed texts."""

    objective: Objective
    patience: Free[Annotated[int, Field(ge=1)] | None]
    """Evaluations in a row without a lower held-out loss, after which the run ends; the adapter that it exports is then
    that of the step with the lowest. null: the run takes all its steps, and exports the last."""

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The columns with the texts to learn from."""
        return (*self.objective.columns_read, MESSAGES)

    @model_validator(mode="after")
    def _prompts_hide_the_answer(self) -> Self:
        learnt = set(self.objective.columns_read)
        for source in self.data.parts.values():
            key, columns = "prompt", [source.prompt]
            if source.template is not None:
                key, columns = "template", column_names(source.template)
            if shown := learnt.intersection(columns):
                raise ValueError(f"data.{key}: shows the column {shown.pop()}, which is what the model shall learn")
        return self

    @model_validator(mode="after")
    def _can_stop_early(self) -> Self:
        if self.patience is not None and not self.evaluate.every:
            raise ValueError("patience: needs held-out losses: evaluate.every must be above 0")
        if self.patience is not None and not self.checkpoint.keep_best:
            raise ValueError("patience: exports the best step, which must be kept: checkpoint.keep_best=true")
        return self
