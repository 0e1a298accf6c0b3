"""Measurements of the running server, side by side with what they are to be compared with."""
