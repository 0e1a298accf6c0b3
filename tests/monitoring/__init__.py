"""Metrics, dashboard and alerts, held against each other and against a real Prometheus."""
