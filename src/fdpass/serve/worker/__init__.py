"""A worker process: its life, and the connections in it."""
