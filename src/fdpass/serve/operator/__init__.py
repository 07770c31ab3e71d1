"""What an operator does to a running server, and sees of it."""
