"""The format of a model package, all that serving and training share: its manifest and its text rules."""
