"""Write a trained policy with its head as a sequence classification model of transformers, which scores texts.

The adapter is merged into the weights, and the head becomes the layer `score` on the state of the last token. It loads
in plain transformers (AutoModelForSequenceClassification) and by `reward=model`.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from rlhf_cli.errors import UserError
from rlhf_cli.models.chat import TemplateError
from rlhf_cli.models.exports.merging import merge_weights, save_model
from rlhf_cli.models.libraries import silence_transformers
from rlhf_cli.models.policy import Policy
from rlhf_cli.models.reward_model import READS, make_encoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def write_classifier(policy: Policy, folder: Path, reads: str) -> None:
    """Write the model (float32 safetensors), its tokenizer and chat template into a folder that exists.

    `reads` is what it was trained to read, as the setting of `reward=model`, which follows it unless it is told
    otherwise.

    Raises UserError as `check_classifier` does, ValueError without a head, and OSError.
    """
    if policy.value_head is None:
        raise ValueError("the policy has no head")
    silence_transformers()
    classifier = _empty_classifier(policy)
    prefix = classifier.base_model_prefix
    weights = {f"{prefix}.{name}": w for name, w in merge_weights(getattr(policy.causal, prefix)).items()}
    weights["score.weight"] = policy.value_head.linear.weight.detach().float().cpu()
    tokenizer = _scoring_tokenizer(policy)
    classifier.load_state_dict(weights, assign=True)  # refuses a name that is missing, unknown, or of another shape
    classifier.config.pad_token_id = tokenizer.pad_token_id
    classifier.config.dtype = torch.float32
    setattr(classifier.config, READS, reads)
    save_model(classifier, folder, state_dict=weights)
    tokenizer.save_pretrained(folder)


def check_classifier(policy: Policy) -> None:
    """Raise UserError where transformers has no sequence classification model that scores the last token's state."""
    _empty_classifier(policy)


def _scoring_tokenizer(policy: Policy) -> PreTrainedTokenizerBase:
    """A copy of the policy's tokenizer whose padding token is one with which no text ends.

    The score is that of the last token which is no padding.
    """
    tokenizer = copy.deepcopy(policy.tokenizer)
    try:
        end = make_encoder("auto", tokenizer, policy.context)("x", "x")[0][-1]
    except TemplateError:  # this chat does not meet its demands; the texts may
        end = None
    named = [tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id]
    fitting = (token for token in [*named, *sorted(tokenizer.added_tokens_decoder)] if token not in (None, end))
    if (padding := next(fitting, None)) is not None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding)
    return tokenizer


def _empty_classifier(policy: Policy) -> PreTrainedModel:
    """The model's own class for sequence classification with one label, without memory for its weights."""
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(policy.causal.config)
    config.num_labels, config.id2label, config.label2id = 1, {0: "score"}, {"score": 0}
    found: Any = None
    if type(config) in AutoModelForSequenceClassification._model_mapping:
        with torch.device("meta"):
            found = AutoModelForSequenceClassification.from_config(config)
    score = getattr(found, "score", None)
    is_linear = isinstance(score, nn.Linear) and score.bias is None
    if not is_linear or found.base_model_prefix != policy.causal.base_model_prefix:
        raise UserError(
            f"transformers has no sequence classification model of the architecture {config.model_type} whose score "
            "is a linear layer on the last token's state",
            where="model.path",
            fix="take a model of another architecture, such as llama, qwen2, mistral, gemma or gpt2",
        )
    model: PreTrainedModel = found
    return model
