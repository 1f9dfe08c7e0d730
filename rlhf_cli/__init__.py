"""rlhf-cli: fine-tune a language model from a reward, driven by YAML."""

__version__ = "0.1.0"
