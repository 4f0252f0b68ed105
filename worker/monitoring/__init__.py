"""Monitoring of a worker: Flower, events, job log and log format."""
