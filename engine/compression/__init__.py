"""Making a pod smaller after it was read: which slots stay, in how many bits, by which basis."""
