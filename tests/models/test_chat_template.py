"""A template of which nothing varies."""

import time

from jinja2 import Environment

from tunewise.models.chat_template import NO_THOUGHTS, settled

TEMPLATE = """{%- if strftime_now is defined %}{%- set day = strftime_now("%d %b %Y") %}{%- endif -%}
Today: {{ day }}, {{ strftime_now( '%Y-%m-%d' ) }}
{%- if enable_thinking is not defined or enable_thinking %} <think>{% endif %}"""


def render(template: str) -> str:
    environment = Environment()
    environment.globals["strftime_now"] = time.strftime
    return environment.from_string(template).render()


def test_the_date_is_fixed_and_reasoning_is_switched_off() -> None:
    assert render(TEMPLATE).endswith("<think>")
    assert render(settled(TEMPLATE)).strip() == "Today: 26 Jul 2024, 2024-07-26"


def test_settling_twice_changes_nothing_and_others_stay_as_they_are() -> None:
    assert settled(settled(TEMPLATE)) == settled(TEMPLATE)
    assert settled("{{ messages }}") == "{{ messages }}"
    assert settled("{{ enable_thinking }}") == NO_THOUGHTS + "{{ enable_thinking }}"
