"""Chunked prefill: builders that read a section into a pod, exact or quantized."""
