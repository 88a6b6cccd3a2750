"""The frozen KV cache of a section (a pod): exact, quantized, with shared keys; its recipe, layout and suffix."""
