"""Attention over segments in PyTorch: flash and cuDNN, the specification they are checked against, and the rotation."""
