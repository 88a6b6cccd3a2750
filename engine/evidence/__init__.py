"""Which heads point at the passage that answers, and how that is calibrated for a model."""
