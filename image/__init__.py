"""The container image: `steps` run while it is built, `check` builds it and looks at it."""
