"""Measuring, free of any network library: figures, baselines, protocols, duplicates, and what a difference is worth."""
