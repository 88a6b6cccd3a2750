"""The families of models that pods are made with: a file of facts each, named in engine.models.families.registry."""
