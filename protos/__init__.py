"""The protocols that Triptych speaks."""
