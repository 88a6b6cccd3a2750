"""Triton kernels, each beside a plain PyTorch function that says what it computes. Import them only where Triton is."""
