"""A reward model: any sequence classification model of transformers, with its own tokenizer and chat template."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rlhf_cli.models.location import reward_model_path
from rlhf_cli.rewards.kinds.base import IsolatedSource
from rlhf_cli.settings import ModelPath


class Model(IsolatedSource):
    """Scores from a network in a process of its own."""

    factory: ClassVar[str] = "rlhf_cli.models.reward_model:make_score"

    kind: Literal["model"]
    path: ModelPath
    """Hub id, local folder, or the folder of a run that trained a reward model; only safetensors are read."""
    revision: str | None
    """Branch, tag or commit of a hub model; null takes the default branch."""
    label: Annotated[int, Field(ge=0)] | str | None
    """The label whose value is the score, by number or name; null: the only label."""
    activation: Literal["none", "sigmoid", "softmax"]
    """Applied to the logits."""
    reads: Literal["auto", "chat", "pair", "text", "completion"]
    """The text that the model reads. chat: the conversation by the model's own chat template; pair, text: prompt and
    completion as a pair, or as one text; completion: the completion alone. auto: what `rlhf reward train`
    trained it on; else chat where there is a template, a pair where there is a separator, or one text."""
    max_tokens: int = Field(ge=1)
    """A longer text loses its beginning."""
    batch_size: int = Field(ge=1)
    """Completions that go through the model at once."""
    device: str = Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """auto takes a GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"]
    """Type of the weights. auto: float32 on a CPU, bfloat16 on a GPU."""

    def check(self, key: str) -> None:
        """Raise UserError where `path` is a folder without a model, or a run without a reward model."""
        reward_model_path(self.path, f"{key}.path")
