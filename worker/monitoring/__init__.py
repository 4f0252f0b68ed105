"""What a worker reports: Flower, events, job log and log format."""
