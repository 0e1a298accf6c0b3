"""What only a machine with an NVIDIA GPU can show: `check` proves serving on it."""
