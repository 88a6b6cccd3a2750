"""The families of models that pods are made with, and their facts: see engine.models.families.registry."""
