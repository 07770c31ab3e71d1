"""Writes counts with their nouns, for error messages and log lines."""


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: ``1 connection``, ``2,000 connections``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
