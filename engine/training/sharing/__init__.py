"""PoD, stage 1: which layers are alike, the search for blocks, and fitted key maps (arXiv 2412.02252)."""
