"""What so many requests a second need, and where it breaks first: docs/scaling.md."""
