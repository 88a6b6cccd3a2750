"""Chunked prefill: builders that read a section into a pod, exact, quantized or with shared keys."""
