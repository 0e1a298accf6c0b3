"""What is counted and measured, for Prometheus and for the statistics of the Open Inference Protocol."""
