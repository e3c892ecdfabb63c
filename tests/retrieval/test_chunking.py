"""Chunks follow the structure of a document."""

from tunewise.retrieval.chunking import MAX_CHARS, MAX_ROW_CHARS, Chunk, chunk_document, slug_of
from tunewise.retrieval.documents import Document

HANDBOOK = """---
title: not part of the text
---
Read this first.

# Leave

## Carry-over (5 days)

Days may be carried over.

## Sick leave

Call before nine.

```sh
# not a heading
```

# Travel
"""


def chunks_of(text: str, kind="markdown", head=""):
    return chunk_document(Document("hr/leave.md", text, kind, head))


def test_headings_make_chunks_with_slugs_and_header_paths():
    chunks = chunks_of(HANDBOOK)
    assert [(c.id, c.head) for c in chunks] == [
        ("hr/leave.md", ""),
        ("hr/leave.md#carry-over-5-days", "Leave > Carry-over (5 days)"),
        ("hr/leave.md#sick-leave", "Leave > Sick leave"),
    ]
    assert chunks[0].text == "Read this first."
    assert chunks[1].shown == "Leave > Carry-over (5 days)\nDays may be carried over."
    assert "# not a heading" in chunks[2].text


def test_every_word_of_a_document_stands_in_exactly_one_chunk():
    words = [f"word{i}" for i in range(900)]
    paragraphs = [" ".join(words[i : i + 45]) for i in range(0, 900, 45)]
    text = "# One\n\n" + "\n\n".join(paragraphs[:9]) + "\n\n# Two\n\n" + "\n\n".join(paragraphs[9:])
    found = " ".join(chunk.text for chunk in chunks_of(text)).split()
    assert found == words


def test_a_long_section_is_split_between_paragraphs_and_numbered():
    paragraph = "x" * 600
    chunks = chunks_of(f"# Long\n\n{paragraph}\n\n{paragraph}\n\nshort end")
    assert [chunk.id for chunk in chunks] == ["hr/leave.md#long", "hr/leave.md#long/2"]
    assert chunks[1].text == f"{paragraph}\n\nshort end"
    assert {chunk.head for chunk in chunks} == {"Long"}


def test_no_chunk_passes_the_limit_however_the_text_is_made():
    sentence = "A sentence of some length. "
    for text in ("y" * 5000, sentence * 200, (sentence.strip() + "\n") * 200):
        chunks = chunks_of(text, kind="text")
        assert len(chunks) > 1
        assert all(0 < len(chunk.text) <= MAX_CHARS for chunk in chunks)


def test_sections_with_the_same_heading_get_ids_of_their_own():
    ids = [chunk.id for chunk in chunks_of("# A\n\none\n\n# A\n\ntwo\n")]
    assert ids == ["hr/leave.md#a", "hr/leave.md#a-1"]


def test_underlined_headings_count_and_rules_do_not():
    chunks = chunks_of("Title\n=====\n\nfirst\n\nPart\n----\n\nsecond\n\n---\n\nthird\n")
    assert [(chunk.head, chunk.text) for chunk in chunks] == [
        ("Title", "first"),
        ("Title > Part", "second\n\n---\n\nthird"),
    ]


def test_a_row_is_one_chunk_unless_it_is_long():
    short = Document("site.example#3", "one\n\ntwo", "row", "site: site.example")
    assert chunk_document(short) == [
        Chunk("site.example#3", "site.example#3", "site: site.example", "one\n\ntwo")
    ]
    long = Document("7", "# Head\n\n" + "z " * MAX_ROW_CHARS, "row", "title: T")
    chunks = chunk_document(long)
    assert chunks[0].id == "7#head"
    assert chunks[0].head == "title: T > Head"
    assert len(chunks) > 1


def test_a_row_may_name_a_chunk_its_section_or_its_document():
    chunk = Chunk("a.md#b/2", "a.md", "", "text")
    assert chunk.is_of("a.md#b/2")
    assert chunk.is_of("a.md#b")
    assert chunk.is_of("a.md")
    assert not chunk.is_of("a.md#bc")
    assert not chunk.is_of("a")


def test_slugs_are_those_of_links():
    assert slug_of("What's new, in 2.0?") == "whats-new-in-20"
    assert slug_of("Über uns") == "über-uns"
