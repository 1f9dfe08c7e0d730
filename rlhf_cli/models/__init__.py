"""The home of transformers and peft: a causal language model with a LoRA adapter; the reference is the adapter off.

settings      the `model` group; imports no torch, so that a config is validated quickly
location      where a model is, as far as can be told without torch or a hub
libraries     torch, transformers and peft, imported once and quickly, and silenced
policy        Policy: model, tokenizer, adapter, value head
building      a policy from its settings: the model loaded and frozen, a fresh adapter
chat          chats as text: the model's template, within limits
specials      special tokens in completions: which of them the texts keep
encoder       prompts as token ids: tokenizer and chat template, without the weights
files         what must not be opened, and which broken file made a library fail
loading       a pretrained model and its tokenizer, from a hub, a folder or the cache
gguf          a packaged GGUF file, converted once into the cache
limits        limits on time and memory, for chat templates and slow rewards
tiny          a random two-layer model with a byte tokenizer
value_head    PPO's estimate of the return from a state on
reward_model  a sequence classification model as a reward
"""
