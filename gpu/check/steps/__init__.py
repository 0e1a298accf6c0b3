"""A module for each step, with a `run(context, found)` that says what it saw, or fails."""
