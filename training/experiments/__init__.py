"""The book's further experiments: variants of its recipes, run, compared, and held to what the book says of them."""
