"""How connections are accepted: by the dispatcher, or by the worker that it chooses."""
