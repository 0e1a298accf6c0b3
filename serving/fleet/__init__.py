"""Several workers on the same ports: the supervisor, its workers, and the line between them."""
