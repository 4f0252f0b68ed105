"""Pairs of texts in, scores out. Knows neither Celery nor Redis nor settings."""
