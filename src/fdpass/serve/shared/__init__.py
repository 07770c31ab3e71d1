"""What dispatcher and workers have agreed on: settings, messages, memory. Imports no other room."""
