"""Records in Redis: the operations on them, and the clients that run operations."""
