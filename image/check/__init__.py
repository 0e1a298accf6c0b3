"""Builds the image for real, without Docker, runs what came out and looks at it: `python -m image.check`."""
