"""Which distant slots of a pod are worth keeping: one policy a file, each with one `score`.

A policy never sees a question: the pod is built before there is one. To add a policy, write a file with a class that
has `score` and `pooled`, and name it in `engine/compression/top_k.py`. What chooses when it is asked is no policy, but
a pod around a pod: see engine.kvcache.quantized.AnyPod.
"""
