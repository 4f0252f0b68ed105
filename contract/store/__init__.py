"""Records in Redis: what is asked, the replies, and the connection that carries both."""
