"""The arithmetic of one token on a processor: one call for all layers, compiled by Numba.

Knows addresses and arrays only. Modules that need Numba are imported where they are used.
"""
