"""PoD, stage 2: light training of a model to share keys (arXiv 2412.02252). None ships."""
