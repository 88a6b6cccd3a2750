"""The arithmetic of one step on a GPU: Triton kernels, each beside the same functions in plain PyTorch.

Knows tensors only: nothing of pods, models or transformers. Modules that need Triton are imported where they are used.
"""
