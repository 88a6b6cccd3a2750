"""Split-KV decoding over exact and quantized ranges (flash decoding), and what stands around it."""
