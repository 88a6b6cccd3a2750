"""Matrix products of few and of many rows with NF4, dense and 8-bit weights."""
