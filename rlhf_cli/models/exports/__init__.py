"""A policy as files of other programs: its adapter merged into the weights.

merging    merge the adapter into the weights; a plain transformers folder
llama_cpp  a GGUF file of the Llama family, as llama.cpp and Ollama read it
harness    lm-eval's tasks, and its table for a merged policy and for the reference
hub        upload a folder to a hub of models
"""
