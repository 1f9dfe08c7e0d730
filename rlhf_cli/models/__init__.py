"""The home of transformers and peft: a causal language model with a LoRA adapter; the reference is the adapter off.

settings      the `model` group; light, so that a config is validated without loading torch
source        where a model comes from; light as well
libraries     torch, transformers and peft, imported once and quickly
policy        Policy: model, tokenizer, prompts in, texts out, the adapter as files
encoder       prompts as the policy reads them: tokenizer and chat template, without the weights
loading       from a hub, a folder or a packaged GGUF file (converted once, into the cache)
bounded       a template, held to a time and a memory
tiny          a random two-layer model with a byte tokenizer
value_head    what PPO expects from a state on
reward_model  a sequence classification model as a reward
"""
