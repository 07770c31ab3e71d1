"""The dispatcher process: it listens, accepts, chooses a worker, hands over, and supervises."""
