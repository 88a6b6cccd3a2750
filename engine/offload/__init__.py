"""Pods on the GPU, in host memory or on the disk: a tiered LRU cache."""
