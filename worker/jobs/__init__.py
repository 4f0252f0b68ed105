"""Run one job, from its message to its outcome, and recover lost jobs."""
