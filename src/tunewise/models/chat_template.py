"""A chat template of which nothing varies: neither by the day nor by a server's switch for reasoning."""

import re
from datetime import datetime

# Llama's own where its template is given no clock. Templates that write today's date would give other token
# ids tomorrow: a model would be trained on one prompt and asked another, and a resumed run mix the two.
DAY = datetime(2024, 7, 26)
_CLOCK = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")


def settled(template: str) -> str:
    """The template with the date it writes fixed to DAY, and without reasoning where it knows that switch.

    ``strftime_now("%d %b %Y")`` becomes its text. A template that reads ``enable_thinking`` (Qwen3, SmolLM3)
    gets it as false: answers are limited to few tokens, and what is tuned has no reasoning in its rows.
    """
    fixed = _CLOCK.sub(lambda found: repr(DAY.strftime(found[2])), template)
    if "enable_thinking" in fixed and not fixed.startswith(NO_THOUGHTS):
        fixed = NO_THOUGHTS + fixed
    return fixed


NO_THOUGHTS = "{%- set enable_thinking = false -%}"
