"""Triptych's model server: everything that runs in production."""

__version__ = "0.1.0"
