"""Searching hyperparameters on validation samples, with KerasTuner."""
