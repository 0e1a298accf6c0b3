"""How bytes arrive and leave: one small interface, and the ways to speak gRPC behind it."""
