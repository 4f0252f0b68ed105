"""Export metrics of the service to Prometheus."""
