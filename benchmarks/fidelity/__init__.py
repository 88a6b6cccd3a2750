"""How true a recipe is: compressed pods against the exact one of the same model, on the same documents, in one run."""
