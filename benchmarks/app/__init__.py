"""The whole app under the clock, through `App` alone, beside the engine's own bench."""
