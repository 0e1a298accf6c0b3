"""From rows to outputs: the queue and batcher of a model version, and the session that they feed."""
