"""What a million documents take: a simulation fed with what was measured, checked on a small cluster."""
