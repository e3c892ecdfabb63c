"""XML is read without entities, documents or network, in bounded time and memory."""

import socket
import threading
import time
import tracemalloc

import pytest

from tunewise.errors import SettingError
from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.evidence.records import Score
from tunewise.forms import OutputSpec
from tunewise.forms.xml_schema import XmlForm

XSD = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
<xs:element name="order"><xs:complexType><xs:sequence>
<xs:element name="item" type="xs:string" maxOccurs="unbounded"/><xs:element name="count" type="xs:integer"/>
</xs:sequence></xs:complexType></xs:element></xs:schema>"""
LAUGHS = (
    '<!DOCTYPE l [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "&a;"}">' for n in range(10))
    + "]><l>&a9;</l>"
)


def score(answer: str, xsd=None, required=()) -> Score:
    context = MetricContext(output=OutputSpec(xml_schema=XmlForm(xsd, required)))
    return METRICS["xml_schema"].score(answer, [], context)


@pytest.fixture
def xsd(tmp_path):
    path = tmp_path / "order.xsd"
    path.write_text(XSD)
    return path


def test_a_valid_document_and_what_is_wrong_with_others(xsd):
    assert score("<order><item>a</item><count>1</count></order>\n", xsd).value == 1
    wrong = score("<order><item>a</item><count>many</count></order>", xsd)
    assert (wrong.status, wrong.value, wrong.detail["well_formed"]) == ("scored", 0, 1)
    assert "'many' is not a valid value of the atomic type 'xs:integer'" in wrong.detail["why"]
    assert "line 1" in wrong.detail["why"]


def test_required_elements_are_named_when_they_are_missing():
    assert score("<order><item/></order>", required=["order/item"]).value == 1
    assert score('<o:order xmlns:o="u"><o:item/></o:order>', required=["order/item"]).value == 1
    found = score("<order/>", required=["order/item", "order"])
    assert found.detail["why"] == "required element missing: order/item"


@pytest.mark.parametrize(
    "answer", ["Here it is: <a><b/></a> as asked", "```xml\n<a><b/></a>\n```", "<a><b/></a>\nDone."]
)
def test_a_document_within_prose_or_a_fence_counts_only_after_extraction(answer):
    found = score(answer, required=["a/b"])
    assert (found.status, found.value, found.detail["repaired_value"]) == ("unparseable", 0, 1)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (LAUGHS, "<!DOCTYPE"),
        ("\n<?xml version='1.0'?><!-- x -->\n" + LAUGHS, "DOCTYPE|not well-formed"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "<!DOCTYPE"),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1/x.dtd"><a/>', "<!DOCTYPE"),
        ("<a>&x;</a>", "not well-formed"),
        ("<a>" * 100_000, "not well-formed"),
        ("<a>" + "\ud800" + "</a>", "lone surrogate"),
        ("", "empty"),
        ("<a", "not well-formed"),
    ],
    ids=range(9),
)
def test_attacks_and_broken_texts_are_refused_quickly(answer, why):
    started = time.perf_counter()
    found = score(answer, required=["a"])
    assert found.status == "unparseable"
    assert any(word in found.detail["why"] for word in why.split("|"))
    assert time.perf_counter() - started < 10


def test_a_text_node_of_100_mb_is_refused_in_little_memory():
    answer = "<a>" + "x" * 100_000_000 + "</a>"
    tracemalloc.start()
    started = time.perf_counter()
    found = score(answer, required=["a"])
    seconds, peak = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.status == "unparseable"
    assert "longer than" in found.detail["why"]
    assert seconds < 60  # a hang, not a speed: other work may share the machine
    assert peak < 450_000_000  # the text once as bytes, and one cut of it in search of a fence


def test_another_host_named_by_an_xsd_is_never_asked(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        asked: list[object] = []

        def listen() -> None:
            try:
                asked.append(server.accept())
            except TimeoutError:
                return

        listener = threading.Thread(target=listen)
        listener.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x.xsd"
        path = tmp_path / "outer.xsd"
        head = '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">\n'
        path.write_text(f'{head}<xs:include schemaLocation="{url}"/></xs:schema>')
        with pytest.raises(SettingError, match=r"line 2: http.* never fetched"):
            XmlForm(path)
        listener.join()
        assert asked == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<xs:schema", "line 1, column 11: not XML"),
        (XSD.replace('type="xs:integer"', 'type="xs:intger"'), r"line 3: .*intger"),
        ("<!DOCTYPE x>" + XSD, "document type declaration"),
    ],
)
def test_an_xsd_that_is_itself_wrong_says_where(tmp_path, text, words):
    path = tmp_path / "x.xsd"
    path.write_text(text)
    with pytest.raises(SettingError, match=words):
        XmlForm(path)


@pytest.mark.parametrize("before", ["\ufeff", "\n \ufeff", "\ufeff <!-- x -->"])
def test_a_byte_order_mark_hides_no_document_type(before):
    found = score(f'{before}<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', required=["a"])
    assert (found.status, found.detail["why"]) == (
        "unparseable",
        "a document type declaration (<!DOCTYPE) is not accepted",
    )
    assert score("\ufeff<a/>", required=["a"]).value == 1
