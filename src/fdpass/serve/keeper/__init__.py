"""The keeper's process, which outlives the dispatcher's, and the estate, which both have."""
