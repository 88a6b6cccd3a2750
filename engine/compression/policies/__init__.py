"""Which distant slots of a pod are worth keeping: each is one function that scores.

A policy never sees a question: the pod is built before there is one. To add a policy, write such a function, and name
it in POLICIES of `engine/kvcache/recipe.py`. What chooses when it is asked is no policy, but a pod around a pod: see
engine.kvcache.quantized.AnyPod.
"""
