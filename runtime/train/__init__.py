"""Training inside a study, and the store of trained weights."""
