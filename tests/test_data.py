"""Reading examples: every format gives the same shape, every broken row is named with its line."""

import builtins
import hashlib
import json
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tunewise.data import Message, example_key, read_examples, read_inputs, reference_text
from tunewise.errors import DataError, SettingError

Write = Callable[..., Path]
ASKED, ANSWERED = "What is 1 + 1?", "Two."


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of this name: text, bytes, or rows as JSONL."""

    def write(content: Any, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_examples(path, **options)
    return str(caught.value)


USER = {"role": "user", "content": ASKED}
FORMATS = {
    "input/output": {"input": ASKED, "output": ANSWERED},
    "messages": {
        "messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}]
    },
    "prompt/completion": {"prompt": ASKED, "completion": ANSWERED},
    "Alpaca": {"instruction": ASKED, "input": "", "output": ANSWERED},
    "ShareGPT": {"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": ANSWERED}]},
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_example(write: Write, name: str) -> None:
    read = read_examples(write([FORMATS[name]]))
    (example,) = read.examples
    assert read.format == f"{name} rows in JSONL"
    assert example.turns == (Message("user", ASKED),)
    assert example.references == (ANSWERED,)
    assert example.key == example_key([Message("user", ASKED)], [ANSWERED])
    assert (example.input, example.answer, example.line) == (ASKED, ANSWERED, 1)


def test_every_kind_of_file_gives_the_same_examples(write: Write, tmp_path: Path) -> None:
    rows = [{"input": f"one, {n}", "output": 'a "word"\nand more'} for n in range(3)]
    cells = "".join(f'"one, {n}","a ""word""\nand more"\n' for n in range(3))
    tabbed = "input\toutput\n" + "".join(f'one, {n}\t"a ""word""\nand more"\n' for n in range(3))
    files = {
        "JSONL": write(rows),
        "JSON": write(json.dumps(rows, indent=1), "rows.json"),
        "CSV": write("input,output\n" + cells, "rows.csv"),
        "TSV": write(tabbed, "rows.tsv"),
    }
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    files["Parquet"] = tmp_path / "rows.parquet"
    read = {kind: read_examples(path) for kind, path in files.items()}
    assert {kind: one.format for kind, one in read.items()} == {k: f"input/output rows in {k}" for k in files}
    keys = {tuple(example.key for example in one.examples) for one in read.values()}
    assert len(keys) == 1
    assert {kind: [example.line for example in one.examples] for kind, one in read.items()} == {
        "JSONL": [1, 2, 3],
        "JSON": [2, 6, 10],
        "CSV": [2, 4, 6],
        "TSV": [2, 4, 6],
        "Parquet": [1, 2, 3],
    }


def test_a_spreadsheet_with_semicolons_and_a_byte_order_mark_is_read(write: Write) -> None:
    read = read_examples(write("\ufeffinput;output\r\nhello, you;x\r\n", "rows.csv"))
    assert (read.examples[0].input, read.examples[0].answer) == ("hello, you", "x")


def test_jsonl_is_recognised_in_a_file_that_ends_in_json(write: Write) -> None:
    assert len(read_examples(write([FORMATS["Alpaca"]], "rows.json")).examples) == 1


def test_lines_end_at_line_feeds_only(write: Write) -> None:
    rows = [{"input": "a\u2028b\x85c", "output": "x"}, {"input": "d", "output": "y"}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    read = read_examples(write(text))
    assert [example.input for example in read.examples] == ["a\u2028b\x85c", "d"]


def test_an_output_may_be_a_json_value_and_several_may_be_right(write: Write) -> None:
    rows = [
        {"input": "a", "output": {"b": [1, "ü"], "a": None}},
        {"input": "b", "references": ["one", "1", "one"]},
        {"input": "c", "output": "first", "references": ["second", "first"]},
        {"input": "d", "output": False},
    ]
    references = [example.references for example in read_examples(write(rows)).examples]
    assert references == [({"b": [1, "ü"], "a": None},), ("one", "1"), ("first", "second"), (False,)]
    assert reference_text(references[0][0]) == '{"b": [1, "ü"], "a": null}'


def test_csv_cells_may_hold_lists_of_references(write: Write) -> None:
    read = read_examples(write('input,references\nq,"[""one"", ""1""]"\n', "rows.csv"))
    assert read.examples[0].references == ("one", "1")


def test_a_chat_keeps_its_earlier_turns_and_ends_before_the_answer(write: Write) -> None:
    chat = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": "1 + "}, {"type": "text", "text": "1?"}]},
        {"role": "assistant", "content": "2"},
    ]
    (example,) = read_examples(write([{"messages": chat}])).examples
    assert [(turn.role, turn.content) for turn in example.turns] == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "1 + 1?"),
    ]
    assert example.references == ("2",)


def test_prompt_and_completion_may_be_lists_of_messages(write: Write) -> None:
    row = {
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "completion": [{"role": "assistant", "content": "a"}],
    }
    (example,) = read_examples(write([row])).examples
    assert (example.turns, example.references) == ((Message("system", "s"), Message("user", "u")), ("a",))


def test_an_alpaca_row_joins_instruction_and_input_after_system_and_history(write: Write) -> None:
    row = {"instruction": "Add.", "input": "1 1", "output": "2", "system": "s", "history": [["q", "a"]]}
    (example,) = read_examples(write([row])).examples
    assert [turn.content for turn in example.turns] == ["s", "q", "a", "Add.\n\n1 1"]


@pytest.mark.parametrize(
    ("extra", "passages"),
    [
        ({"passage": "p1"}, ("p1",)),
        ({"doc_ids": ["d2", "d1", "d2"]}, ("d2", "d1")),
        ({"doc_id": 7, "passages": ["p"]}, ("p", "7")),
        ({"passage": None}, ()),
    ],
)
def test_a_row_may_name_its_passages(write: Write, extra: dict[str, Any], passages: tuple[str, ...]) -> None:
    assert read_examples(write([FORMATS["Alpaca"] | extra])).examples[0].passages == passages


def test_a_group_may_be_any_value_of_the_row(write: Write) -> None:
    rows = [{"input": "a", "output": {"x": 1, "y": 2}}, {"input": "b", "output": {"y": 2, "x": 1}}]
    read = read_examples(write(rows), group="output")
    assert {example.group for example in read.examples} == {'{"x":1,"y":2}'}


def test_the_key_is_the_content_and_not_the_place() -> None:
    turns = [Message("user", "q")]
    text = '{"references":[{"a":1,"b":"\\u00fc"}],"turns":[["user","q"]]}'
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == example_key(turns, [{"b": "ü", "a": 1}])
    assert example_key(turns, ["1"]) != example_key(turns, [1])
    assert example_key([Message("system", "q")], ["1"]) != example_key(turns, ["1"])


def test_exact_duplicates_are_dropped_and_counted(write: Write) -> None:
    rows = [{"input": "a", "output": "x"}, {"input": "b", "output": "x"}] + [
        {"input": "a", "output": "x"}
    ] * 2
    read = read_examples(write(rows))
    assert [example.line for example in read.examples] == [1, 2]
    assert read.warnings == ("rows.jsonl: 2 exact duplicates dropped (the first: line 3 repeats line 1)",)


def test_one_input_with_two_outputs_warns_with_both_lines(write: Write) -> None:
    rows = [{"input": "a", "output": "x"}, {"input": "b", "output": "x"}, {"input": "a", "output": "y"}]
    (warning,) = read_examples(write(rows)).warnings
    assert warning == "rows.jsonl: lines 1 and 3 have the same input and different outputs: 'x' and 'y'"


def test_many_contradictions_are_cut_short(write: Write) -> None:
    read = read_examples(write([{"input": "a", "output": str(n)} for n in range(30)]))
    assert len(read.warnings) == 11
    assert read.warnings[-1] == "rows.jsonl: 19 more rows repeat an earlier input with another output"


def test_a_missing_file_an_unknown_ending_and_a_folder_are_named(write: Write, tmp_path: Path) -> None:
    assert refused(tmp_path / "rows.jsonl") == f"{tmp_path}/rows.jsonl: no such file"
    assert "the ending '.txt' is not one of .jsonl" in refused(write("x", "rows.txt"))
    (tmp_path / "folder.json").mkdir()
    assert "this is a folder, a file was expected" in refused(tmp_path / "folder.json")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", ""), ("a.jsonl", "\n \n"), ("a.json", "[]"), ("a.csv", "input,output\n")],
)
def test_empty_data_is_refused(write: Write, name: str, content: str) -> None:
    assert "the file holds no rows" in refused(write(content, name))


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("input/output", {"input": "a"}),
        ("input/output", {"input": "a", "output": ""}),
        ("input/output", {"input": "a", "output": None}),
        ("messages", {"messages": [{"role": "user", "content": "a"}]}),
        (
            "messages",
            {"messages": [USER, {"role": "assistant", "content": None}]},
        ),
        ("prompt/completion", {"prompt": "a"}),
        ("Alpaca", {"instruction": "a"}),
        ("ShareGPT", {"conversations": [{"from": "human", "value": "a"}]}),
    ],
)
def test_a_row_without_output_is_named_with_its_line(write: Write, name: str, row: dict[str, Any]) -> None:
    path = write([FORMATS[name], FORMATS[name], row])
    message = refused(path)
    assert message.startswith(f"{path}, line 3: the row has no output: ")
    assert message.endswith("was expected; add it or take the row out")


def test_broken_json_is_named_with_line_and_column(write: Write) -> None:
    path = write(
        '{"input": "a", "output": "x"}\n{"input": "b", "output": }\n[1]\n{"input": NaN, "output": "x"}\n'
    )
    lines = refused(path).splitlines()
    assert lines[0].startswith(f'{path}, line 2: broken JSON at column 26: Expecting value; got \'{{"input"')
    assert lines[1] == f"{path}, line 3: an object {{...}} was expected, got [1]"
    assert lines[2] == f"{path}, line 4: broken JSON: NaN is no JSON value"


def test_a_json_list_that_breaks_off_is_named_with_its_line(write: Write) -> None:
    path = write('[\n{"input": "a", "output": "x"},\n{"input": "b"', "rows.json")
    assert refused(path).startswith(f"{path}, line 3: broken JSON at column")


def test_what_follows_a_json_list_is_not_dropped_in_silence(write: Write) -> None:
    row = '{"input": "a", "output": "x"}'
    path = write(f"[{row}]\n[{row}]\n", "rows.json")
    assert refused(path) == f"{path}, line 2: the list has ended, but more follows: '[{row}]'"


def test_a_name_that_stands_twice_is_refused_since_only_one_of_its_values_could_count(write: Write) -> None:
    twice = '{"input": "a", "output": "wrong", "output": "odd"}\n'
    for name, text, says in (
        ("a.jsonl", twice, "line 1: broken JSON: the key 'output' stands twice"),
        ("a.json", f"[{twice}]", "the key 'output' stands twice"),
        ("a.csv", "input,output,output\na,odd,wrong\n", "the column 'output' stands twice in the header"),
    ):
        with pytest.raises(DataError, match=says):
            read_examples(write(text, name))
    assert len(read_examples(write("input,output,,\na,odd,,\n", "b.csv")).examples) == 1


def test_a_number_of_endless_digits_is_a_broken_row_in_words(write: Write) -> None:
    with pytest.raises(DataError, match="line 1: broken JSON: a number has more digits than can be read"):
        read_examples(write('{"input": "a", "output": ' + "9" * 5000 + "}\n"))


def test_what_a_table_of_numbers_does_not_know_is_no_answer(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = pa.table({"input": ["a", "b", "c"], "output": [1.0, float("nan"), None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 2: the row has no output") as found:
        read_examples(tmp_path / "a.parquet")
    assert "row 3: the row has no output" in str(found.value)


def test_json_nested_too_deep_is_a_broken_row(write: Write) -> None:
    assert "line 1: broken JSON" in refused(write('{"input":' + "[" * 200_000))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.json"])
def test_a_byte_that_is_not_utf8_is_named_with_line_and_offset(write: Write, name: str) -> None:
    path = write(b'{"input": "a", "output": "x"}\n{"input": "caf\xe9", "output": "x"}\n', name)
    expected = f"{path}, line 2: byte 0xe9 at offset 44 is not UTF-8; save the file as UTF-8"
    assert refused(path) == expected


def test_utf16_is_recognised(write: Write) -> None:
    assert "the file is UTF-16; save it as UTF-8" in refused(write('{"input": "a"}'.encode("utf-16")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('input,output\n"a,b\n', "line 2: broken CSV: unexpected end of data"),
        ("input,output\na,b,c\n", "line 2: 2 cells were expected as in the header, got 3"),
        ("input,output\n\na,x\nb,\n", "line 4: the row has no output: 'output' or 'references' was expected"),
    ],
)
def test_a_broken_table_is_named_with_its_line(write: Write, text: str, message: str) -> None:
    assert message in refused(write(text, "rows.csv"))


def test_up_to_ten_broken_rows_are_listed(write: Write) -> None:
    rows = [FORMATS["input/output"], *({"input": str(n)} for n in range(15))]
    lines = refused(write(rows)).splitlines()
    assert [line.split("line ")[1].split(":")[0] for line in lines[:10]] == [str(n) for n in range(2, 12)]
    assert lines[10:] == ["... and 5 more rows", "(most rows are of the format input/output)"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input": "  ", "output": "x"}, "'input' is empty; a text was expected"),
        ({"output": "x", "input": None}, "'input' is empty; a text was expected"),
        ({"input": "a", "references": "x"}, "'references' must be a list of right answers, got \"x\""),
        ({"input": "a", "references": [""]}, "'references' must be a list of right answers"),
        ({"input": "\ud800", "output": "x"}, "half of a surrogate pair"),
        ({"input": "a", "output": "cut \ud83d"}, "the output: the text holds half of a surrogate pair"),
        ({"input": "a", "output": {"note": "\ud83d"}}, "half of a surrogate pair"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, 'the role ["user"] is not system'),
        ({"messages": []}, "'messages' must be a list of messages, got []"),
        ({"messages": ["hi"]}, "'messages', message 1: an object with role and content was expected"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            'message 1: the role "tool" is not system',
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url"}]},
                    {"role": "assistant", "content": "x"},
                ]
            },
            "message 1: only text can be read",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
            "message 1: it holds a tool call",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x"}]},
            "the turn before the answer must be the",
        ),
        (
            {"messages": [{"role": r, "content": "x"} for r in ("user", "system", "user", "assistant")]},
            "a system turn may only stand first",
        ),
        ({"prompt": "a", "completion": [{"role": "user", "content": "x"}]}, "must be one assistant message"),
        ({"instruction": "", "input": "", "output": "x"}, "'instruction' and 'input' are empty"),
        (
            {"instruction": "a", "output": "x", "history": [["q"]]},
            "'history' must hold pairs [question, answer]",
        ),
    ],
)
def test_a_row_that_says_too_little_is_refused_in_words(
    write: Write, row: dict[str, Any], message: str
) -> None:
    assert message in refused(write([row]))


def test_rows_of_no_known_format_are_refused_with_their_keys(write: Write) -> None:
    message = refused(write([{"question": "a", "answers": ["b"]}]))
    assert "their keys are: answers, question; rename two of them to 'input' and 'output'" in message


def test_a_row_without_its_group_is_named(write: Write) -> None:
    path = write([FORMATS["Alpaca"] | {"user": "u"}, FORMATS["input/output"]])
    assert refused(path, group="user") == f"{path}, line 2: the group field 'user' is missing in this row"


def test_inputs_to_be_answered_need_no_output_and_keep_repeats(write: Write) -> None:
    read = read_inputs(write([{"input": "a"}, {"input": "a"}, {"input": "b", "output": "x"}]))
    assert [(example.input, example.references) for example in read.examples] == [
        ("a", ()),
        ("a", ()),
        ("b", ("x",)),
    ]
    (chat,) = read_inputs(write([{"messages": [{"role": "user", "content": "hi"}]}], "c.jsonl")).examples
    assert chat.turns == (Message("user", "hi"),)


def test_parquet_without_pyarrow_names_the_extra(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SettingError, match=r"pip install 'tunewise\[local\]'"):
        read_examples(write(b"PAR1", "rows.parquet"))


def test_a_file_that_is_no_parquet_is_refused(write: Write) -> None:
    pytest.importorskip("pyarrow")
    assert "this is no Parquet file" in refused(write(b"PAR1 and nothing else", "rows.parquet"))


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data are not here")
@pytest.mark.parametrize(
    ("name", "form", "rows"),
    [
        ("extraction_e2e/e2e_train.jsonl", "input/output", 2943),
        ("intent_banking77/banking77_train.jsonl", "input/output", 10003),
        ("instruction_mix/alpaca_en_demo.jsonl", "Alpaca", 985),
    ],
)
def test_real_files_are_recognised(name: str, form: str, rows: int) -> None:
    read = read_examples(SHARED / name)
    assert (read.format, len(read.examples)) == (f"{form} rows in JSONL", rows)
    assert len({example.key for example in read.examples}) == rows


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data are not here")
def test_real_tool_calls_are_refused_with_lines() -> None:
    message = refused(SHARED / "instruction_mix" / "glaive_toolcall_demo.jsonl")
    assert (
        "line 1: 'messages', message 4: the role \"function_call\" is not system, user or assistant"
        in message
    )


def test_objects_with_a_role_of_their_own_are_an_output_and_no_chat(write: Write) -> None:
    people = [{"name": "Ann", "role": "CEO"}, {"name": "Bo", "role": "user"}]
    (row,) = read_examples(write([{"input": "Who?", "output": people}])).examples
    assert row.references == (people,)


def test_parquet_values_are_what_json_would_have(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    nested = {"sum": Decimal("12.50"), "n": Decimal("3"), "day": date(2026, 1, 2), "raw": b"ok"}
    table = pa.table(
        {
            "input": [b"caf\xc3\xa9"],
            "output": [nested],
            "picture": [b"\xff\xd8"],
            "at": [datetime(2026, 1, 2, 3)],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    (row,) = read_examples(tmp_path / "a.parquet").examples
    assert row.input == "café"
    assert row.references == ({"sum": 12.5, "n": 3, "day": "2026-01-02", "raw": "ok"},)
    assert row.fields["at"] == "2026-01-02T03:00:00"
    pyarrow.parquet.write_table(pa.table({"input": [b"\xff"], "output": ["a"]}), tmp_path / "b.parquet")
    assert "row 1: input: a text was expected, got bytes that are no UTF-8" in refused(tmp_path / "b.parquet")


def test_a_long_cell_is_read(write: Write) -> None:
    (row,) = read_examples(write(f"input,output,page\na,b,{'x' * 200_000}\n", "rows.csv")).examples
    assert (row.input, row.answer) == ("a", "b")
