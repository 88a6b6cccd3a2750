"""The forms in which a pod is stored: blocks by layer, by chunk, of scores, and how they are loaded."""
