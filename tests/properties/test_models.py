"""The policy is the model, the chat and the prompt that were asked for, or the run is refused.

Model folders, chats and templates are generated: most of them are broken in some way that a user has met.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlhf_cli.errors import UserError
from rlhf_cli.models.encoder import Encoder
from rlhf_cli.models.loading import load
from rlhf_cli.models.tiny import build_tiny, byte_tokenizer
from rlhf_cli.types import Message, PromptRow
from tests.unit.support import pretrained, tiny

SLOWLY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ROLES = ("system", "user", "assistant")
TEXTS = st.text("ab <>{}%|\n", min_size=1, max_size=12).filter(str.strip)
TURNS = st.builds(Message, st.sampled_from(ROLES), TEXTS)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama as a transformers folder."""
    folder = tmp_path_factory.mktemp("model")
    model, tokenizer = build_tiny(tiny(layers=1))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def saved(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


@SLOWLY
@given(data=st.data())
def test_every_weight_is_that_of_the_files_or_the_folder_is_refused(
    data: st.DataObject, folder: Path, saved: dict[str, Tensor]
) -> None:
    """Tensors are left out, renamed, cut, added or made not a number."""
    tensors = {name: tensor.clone() for name, tensor in saved.items()}
    for name in data.draw(st.lists(st.sampled_from(sorted(saved)), max_size=3, unique=True)):
        tensor = tensors.pop(name)
        match data.draw(st.sampled_from(["drop", "rename", "prefix", "cut", "nan", "scale"])):
            case "rename":
                tensors[f"{name}_old"] = tensor
            case "prefix":
                tensors[f"module.{name}"] = tensor
            case "cut":
                tensors[name] = tensor[:-1].clone()
            case "nan":
                tensors[name] = tensor.fill_(float("nan"))
            case "scale":
                tensors[name] = tensor * 1.5
    if data.draw(st.booleans()):
        tensors["lm_head.extra"] = torch.ones(2)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    try:
        loaded = load(pretrained(folder), torch.float32, torch.device("cpu"))
    except UserError:
        assert {name: t.shape for name, t in tensors.items()} != {n: t.shape for n, t in saved.items()} or any(
            not bool(tensor.isfinite().all()) for tensor in tensors.values()
        )
        return
    for name, weight in loaded.model.state_dict().items():
        source = name if name in tensors else "model.embed_tokens.weight"  # an output layer that is tied to it
        assert torch.equal(weight, tensors[source]), name
    unused = tensors.keys() - loaded.model.state_dict().keys()
    assert all(any(name in note for note in loaded.notes) for name in unused)


@st.composite
def templates(draw: st.DrawFn) -> str:
    """A chat template; it may leave out turns or roles, trim, cut, or open each text with a token of its own."""
    content = draw(st.sampled_from(["m.content", "m.content | trim", "m.content[:5]", "m.content | upper", "''"]))
    turn = f"[{{{{ m.role }}}}]{{{{ {content} }}}}{draw(st.sampled_from(['', '<|end|>']))}"
    skip = draw(st.sampled_from(["true", "true", "m.role != 'system'", "not loop.first", "loop.index < 3"]))
    opened = draw(st.sampled_from(["", "{{ bos_token }}", "{{ bos_token }}{{ bos_token }}"]))
    asked = draw(st.sampled_from(["", "{% if add_generation_prompt %}[assistant]{% endif %}"]))
    return f"{opened}{{% for m in messages %}}{{% if {skip} %}}{turn}{{% endif %}}{{% endfor %}}{asked}"


@SLOWLY
@given(template=templates(), chat=st.lists(TURNS, min_size=1, max_size=4), is_text=st.booleans())
def test_every_turn_is_in_the_prompt_or_the_row_is_refused(template: str, chat: list[Message], is_text: bool) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    encoder = Encoder(tokenizer, use_chat_template=True, vocabulary=len(tokenizer))
    prompt = (chat[0].content or "") if is_text else tuple(chat)
    # a template may write an answer of the assistant otherwise: without its thoughts, for one
    asked = [prompt] if isinstance(prompt, str) else [t.content or "" for t in prompt if t.role != "assistant"]
    try:
        (encoded,) = encoder.encode([PromptRow(prompt, {}, "rows.jsonl:1")])
    except UserError:
        return
    rest = encoded.text
    for content in asked:
        assert content.strip() in rest, (template, content)
        rest = rest[rest.index(content.strip()) + len(content.strip()) :]
    bos = tokenizer.bos_token_id
    assert bos is None or encoded.tokens[:2] != (bos, bos)
