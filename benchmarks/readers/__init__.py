"""Readers that choose what is attended: how far their answers are from everything, and how fast they are."""
