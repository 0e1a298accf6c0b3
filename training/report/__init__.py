"""The report of a run: one HTML page that needs nothing beside it, and the same as Markdown with its pictures."""
