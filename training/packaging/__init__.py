"""From a trained Keras network to a model package: the graph, the golden examples, the folder on disk."""
