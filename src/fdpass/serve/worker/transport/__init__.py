"""asyncio's transports over connections that came from the dispatcher."""
