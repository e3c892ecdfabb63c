"""SQL is what parses as statements of the dialect; prose is not."""

import pytest

pytest.importorskip("sqlglot")

from tunewise.errors import SettingError
from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.evidence.records import Score
from tunewise.forms import OutputSpec
from tunewise.forms.sql import SqlForm


def score(answer: str, dialect: str = "postgres") -> Score:
    return METRICS["sql"].score(answer, [], MetricContext(output=OutputSpec(sql=SqlForm(dialect))))


@pytest.mark.parametrize(
    "answer", ["select a from b where c ilike 'x%'", "with a as (select 1) select * from a; delete from t"]
)
def test_statements_parse(answer):
    assert (score(answer).status, score(answer).value) == ("scored", 1)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("hello world", "statement 1 is no statement but an expression"),
        ("select a fro b", "line 1, column 14: "),
        ("select (1", "Expecting )"),
        ("", "there is no statement"),
        ("[" * 5000, "nested too deeply"),
        ("(" * 300 + ")" * 300, "deeper than 200"),
        ("select 1 -- " + "x" * 30_000, "longer than 20,000"),
    ],
)
def test_what_does_not_parse_says_where_and_why(answer, why):
    found = score(answer)
    assert (found.status, found.value) == ("unparseable", 0)
    assert why in found.detail["why"]


def test_a_statement_in_a_fence_counts_only_after_repair():
    assert score("```sql\nselect 1\n```").detail["repaired_value"] == 1


def test_the_dialect_matters_and_an_unknown_one_is_refused():
    assert score("select `a` from `b`", "mysql").value == 1
    assert score("select `a` from `b`", "tsql").value == 0
    with pytest.raises(SettingError, match="unknown SQL dialect 'postgre'; did you mean 'postgres'"):
        SqlForm("postgre")
