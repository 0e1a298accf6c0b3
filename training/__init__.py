"""Triptych's trainer: everything that makes a model package."""

import os

# Read once, when TensorFlow and Keras are first imported, so they are set before that can happen.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
