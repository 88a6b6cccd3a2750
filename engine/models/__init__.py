"""Loading a model, its tokenizer, and running its decoder layers: transformers, one short loop, Triton."""
