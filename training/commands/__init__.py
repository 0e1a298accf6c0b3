"""The commands of `python -m training`, one a module; each imports what is heavy only when it runs."""
