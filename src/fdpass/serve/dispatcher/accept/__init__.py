"""How connections get to workers: accepted by the dispatcher, or by the worker that it chooses."""
