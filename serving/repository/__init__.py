"""Model packages on disk, their verified load, and the versions that are served."""
