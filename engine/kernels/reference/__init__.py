"""What the kernels compute, in plain PyTorch: the specification."""
