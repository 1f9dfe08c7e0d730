"""The models, by transformers and peft: a causal language model with a LoRA adapter; without it, the reference.

settings      the `model` group; it imports no torch, so that validating a config is quick
location      find a model as far as possible without torch or a hub
libraries     import torch, transformers and peft once and quickly, and silence them
policy        Policy: model, tokenizer, adapter, value head
building      build a policy: load and freeze the model, add a fresh adapter
chat          render chats as text: the model's template, within limits
specials      which special tokens stay in the texts of completions
encoder       encode prompts as token ids: tokenizer and chat template, without the weights
files         refuse files that must not be opened; find the broken file that made a library fail
fingerprint   hash the weights, and how text is read and written
loading       load a pretrained model and its tokenizer, from a hub, a folder or the cache
gguf          convert a packaged GGUF file, once, into the cache
memory        a device: which one it is, its memory, and whether the weights fit into it
limits        limits on time and memory, for chat templates and slow rewards
tiny          a random two-layer model with a byte tokenizer
value_head    a number for a state: the return that PPO expects, or the score of a reward model
exports       a policy as files of other programs: a transformers folder, a GGUF file
classifier    write a trained policy and its head as a sequence classification model
reward_model  a sequence classification model as a reward
"""
