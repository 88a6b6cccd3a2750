"""The arithmetic of one step on a GPU: Triton kernels.

Knows tensors only: nothing of pods, models or transformers. Modules that need Triton are imported where they are used.
"""
