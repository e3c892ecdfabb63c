"""What counts as a word, wherever texts are compared or searched by their words."""

import re

# Scripts written without spaces, for a character class: kana and Han. Each of their characters is a word.
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"

# A word is a run of letters, digits and underscores; of scripts written without spaces, one character.
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")

# The same without underscores, which are marks in Markdown.
BARE_WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
