"""What stands in a pod for slots that did not stay: samples with counts, a state of low rank.

To add a method, write a module as `base.Summary` has it, and name it here and in POLICIES of engine/kvcache/recipe.py.
"""

from collections.abc import Mapping

from engine.kvcache.summaries import less, subgen
from engine.kvcache.summaries.base import Summary

SUMMARIES: Mapping[str, Summary] = {"subgen": subgen, "less": less}
