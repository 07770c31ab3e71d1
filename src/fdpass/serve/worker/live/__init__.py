"""Open streams: WebSockets and event streams that another worker can continue."""
