"""Counts with their nouns."""

import pytest

from fdpass._words import counted


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 workers"), (1, "1 worker"), (2, "2 workers"), (2000, "2,000 workers")]
)
def test_a_noun_agrees_with_its_count(count, text):
    assert counted(count, "worker") == text
