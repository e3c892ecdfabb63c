"""Documents are read, or refused with a message that names file and line."""

import json

import pytest

from tunewise.errors import DataError
from tunewise.retrieval.documents import html_to_markdown, read_documents


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_is_read_in_order_with_ids_below_it(tmp_path):
    write(tmp_path, "b/two.txt", "second")
    write(tmp_path, "a.md", "# First")
    write(tmp_path, "c.html", "<h1>Third</h1><p>text</p>")
    write(tmp_path, "logo.png", "no text")
    write(tmp_path, ".hidden/x.md", "left out")
    read = read_documents(tmp_path)
    assert [(d.id, d.kind) for d in read.documents] == [
        ("a.md", "markdown"),
        ("b/two.txt", "text"),
        ("c.html", "markdown"),
    ]
    assert read.ignored == ("logo.png",)


def test_rows_have_their_own_ids_and_other_fields_as_head(tmp_path):
    rows = [
        {"id": "p1", "text": "Text.", "site": "shop.example", "tags": ["a", "b"], "empty": None},
        {"doc_id": 7, "text": "More."},
    ]
    path = write(tmp_path, "docs.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    documents = read_documents(path).documents
    assert [(d.id, d.head, d.text, d.kind) for d in documents] == [
        ("p1", 'site: shop.example; tags: ["a", "b"]', "Text.", "row"),
        ("7", "", "More.", "row"),
    ]


def test_a_line_separator_inside_a_row_is_no_end_of_line(tmp_path):
    path = write(tmp_path, "docs.jsonl", json.dumps({"id": "1", "text": "a\u2028b"}, ensure_ascii=False))
    assert read_documents(path).documents[0].text == "a\u2028b"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{broken", "docs.jsonl:2: not a line of JSON"),
        ('{"id": "2"}', 'docs.jsonl:2: expected {"id"'),
        ('["list"]', 'docs.jsonl:2: expected {"id"'),
        ('{"text": "no id"}', 'docs.jsonl:2: expected an "id"'),
        ('{"id": "1", "text": "again"}', "two documents have the id '1'"),
    ],
)
def test_a_bad_row_is_named(tmp_path, line, said):
    path = write(tmp_path, "docs.jsonl", '{"id": "1", "text": "good"}\n' + line)
    with pytest.raises(DataError) as caught:
        read_documents(path)
    assert said in str(caught.value)


def test_an_empty_folder_and_one_without_text_are_refused(tmp_path):
    with pytest.raises(DataError, match="no documents with text"):
        read_documents(tmp_path)
    write(tmp_path, "blank.md", " \n")
    write(tmp_path, "picture.png", "x")
    with pytest.raises(DataError, match=r"found only picture\.png"):
        read_documents(tmp_path)


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_documents(tmp_path / "nowhere")


def test_a_wrong_encoding_names_byte_and_line(tmp_path):
    path = tmp_path / "old.txt"
    path.write_bytes("first\nsecond Stra\u00dfe".encode("latin-1"))
    with pytest.raises(DataError, match="byte 0xdf in line 2"):
        read_documents(path)


def test_a_page_becomes_its_words_under_its_headings():
    page = """<html><head><title>T</title><style>p {}</style></head><body><nav>menu</nav>
      <h1>Leave &amp; <em>travel</em></h1><p>Take  it\n easy.</p><script>alert(1)</script>
      <ul><li>one</li><li>two</li></ul><h2>More</h2><table><tr><td>a</td><td>b</td></tr></table></body></html>"""
    assert html_to_markdown(page) == (
        "# Leave & travel\n\nTake it easy.\n\n- one\n- two\n\n## More\n\n a b\n"
    )
