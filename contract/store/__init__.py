"""Store records in Redis: the operations, and the stores that run them."""
