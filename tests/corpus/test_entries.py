"""The format of the corpus: what is escaped, and what is refused."""

import pytest

from .entries import FILES, Entry, cuts, read, unescaped


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (r"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n"),
        (r"\t\0\\\x80\xff", b"\t\0\\\x80\xff"),
        (r"a\{3:b\r}c", b"ab\rb\rb\rc"),
        (r"\\{3:b}", b"\\{3:b}"),
    ],
)
def test_what_is_escaped_is_what_it_stands_for(text, data):
    assert unescaped(text) == data


@pytest.mark.parametrize("text", ["\\", r"\q", r"\x8", r"\xFF", r"\{a:b}", r"\{3:b"])
def test_an_unknown_escape_is_refused(text):
    with pytest.raises(ValueError, match="unknown escape"):
        unescaped(text)


def test_an_entry_is_a_paragraph_and_line_ends_are_none_of_it(tmp_path):
    (tmp_path / "some.txt").write_text("# about\n\none\nGET\n /\\n\n\n# more\ntwo\n\\0\n")
    assert read(tmp_path / "some.txt") == [Entry("some: one", b"GET /\n"), Entry("some: two", b"\0")]


@pytest.mark.parametrize("text", ["one\n", "one\nGET \n", "one\na\n\none\nb\n"])
def test_a_file_that_is_not_in_the_format_is_refused(tmp_path, text):
    (tmp_path / "some.txt").write_text(text)
    with pytest.raises(ValueError, match=r"some\.txt"):
        read(tmp_path / "some.txt")


def test_a_short_entry_is_cut_everywhere_and_a_long_one_at_its_ends_and_limits():
    assert [*cuts(Entry("", b"four"))] == [1, 2, 3]
    long = cuts(Entry("", b"x" * 70_000))
    assert {1, 2, 100, 16 * 1024, 60 * 1024, 64 * 1024, 69_999} <= set(long)
    assert len(long) < 2000


def test_there_are_many():
    assert len({entry.name for file in FILES for entry in read(file)}) > 1000
