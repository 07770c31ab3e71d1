"""What an operator does with a running server: commands, signals, status, and the service manager."""
