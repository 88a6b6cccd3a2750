"""Measures how fast documents are read and asked; `python -m benchmarks.speed`."""
