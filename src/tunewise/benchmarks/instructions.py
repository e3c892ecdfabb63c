"""IFEval's verifiable instructions that can be checked without a language model or a download. Pure.

Zhou et al. 2023 ("Instruction-Following Evaluation for Large Language Models"), Table 1. Left out are the
language of the answer and the number of sentences, which need models of their own. The two that ask for
English in capital or small letters check the letters only; words in capitals are counted by our own cutting
of words.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Check = Callable[..., bool]
CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def relation_holds(count: int, relation: str, number: int) -> bool:
    """``less than`` or ``at least``. Raises ValueError for another word."""
    if relation not in ("less than", "at least"):
        raise ValueError(f"expected 'less than' or 'at least', got {relation!r}")
    return count < number if relation == "less than" else count >= number


def keywords_exist(text: str, keywords: Sequence[str]) -> bool:
    """Every keyword occurs, in any case."""
    return all(re.search(word, text, re.IGNORECASE) for word in keywords)


def keyword_frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    """The keyword occurs so often."""
    return relation_holds(len(re.findall(keyword.strip(), text, re.IGNORECASE)), relation, frequency)


def forbidden_words(text: str, forbidden_words: Sequence[str]) -> bool:
    """None of the words occurs as a whole word."""
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """The letter occurs so often, in any case."""
    return relation_holds(text.lower().count(letter.lower()), let_relation, let_frequency)


def number_words(text: str, num_words: int, relation: str) -> bool:
    """So many words (runs of word characters)."""
    return relation_holds(len(re.findall(r"\w+", text)), relation, num_words)


def number_paragraphs(text: str, num_paragraphs: int) -> bool:
    """So many paragraphs between dividers of three asterisks; an empty one counts only within the text."""
    parts = re.split(r"\s?\*\*\*\s?", text)
    if any(not part.strip() for part in parts[1:-1]):
        return False
    return sum(bool(part.strip()) for part in parts) == num_paragraphs


def first_word_of_paragraph(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """So many paragraphs between empty lines, and the n-th (from 1) begins with that word."""
    parts = re.split(r"\n\n", text)
    filled = sum(bool(part.strip()) for part in parts)
    if nth_paragraph > filled or not parts[nth_paragraph - 1].strip():
        return False
    word = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return filled == num_paragraphs and re.split(r"[.,?!'\"]", word)[0].lower() == first_word.lower()


def placeholders(text: str, num_placeholders: int) -> bool:
    """At least so many [placeholders]."""
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def postscript(text: str, postscript_marker: str) -> bool:
    """A postscript that begins with the marker."""
    known = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}
    marker = postscript_marker.strip()
    pattern = known.get(marker, rf"\s*{marker.lower()}.*$")
    return re.search(pattern, text.lower(), re.MULTILINE) is not None


def bullet_lists(text: str, num_bullets: int) -> bool:
    """Exactly so many lines that are bullets (* or -)."""
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", text, re.MULTILINE)) == num_bullets


def constrained_response(text: str) -> bool:
    """One of the three given sentences occurs."""
    return any(choice in text for choice in CHOICES)


def highlighted_sections(text: str, num_highlights: int) -> bool:
    """At least so many *highlighted* or **highlighted** stretches that are not empty."""
    single = [part for part in re.findall(r"\*[^\n\*]*\*", text) if part.strip("*").strip()]
    double = re.findall(r"\*\*[^\n\*]*\*\*", text)
    filled = [part for part in double if part.removeprefix("**").removesuffix("**").strip()]
    return len(single) + len(filled) >= num_highlights


def multiple_sections(text: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many sections headed by the splitter and a number."""
    return len(re.split(rf"\s?{section_spliter.strip()}\s?\d+\s?", text)) - 1 >= num_sections


def json_format(text: str) -> bool:
    """The whole text is JSON, a fence of three ticks allowed."""
    body = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        body = body.removeprefix(fence)
    try:
        json.loads(body.removesuffix("```").strip())
    except ValueError:
        return False
    return True


def title(text: str) -> bool:
    """A title in <<double angular brackets>>."""
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", text))


def two_responses(text: str) -> bool:
    """Two different answers, six asterisks between them."""
    parts = text.split("******")
    if any(not part.strip() for part in parts[1:-1]):
        return False
    filled = [part.strip() for part in parts if part.strip()]
    return len(filled) == 2 and filled[0] != filled[1]


def repeat_prompt(text: str, prompt_to_repeat: str) -> bool:
    """The answer begins with the request, in any case."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(text: str, end_phrase: str) -> bool:
    """The answer ends with the phrase, in any case; quotation marks around the answer are allowed."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(text: str) -> bool:
    """The whole answer stands in double quotation marks."""
    body = text.strip()
    return len(body) > 1 and body[0] == body[-1] == '"'


def capital_words(text: str, capital_frequency: int, capital_relation: str) -> bool:
    """So many words all in capitals; a hyphenated word is one."""
    words = [word for word in re.findall(r"\w+(?:[-']\w+)*", text) if word.isupper()]
    return relation_holds(len(words), capital_relation, capital_frequency)


CHECKS: dict[str, Check] = {
    "keywords:existence": keywords_exist,
    "keywords:frequency": keyword_frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "length_constraints:number_words": number_words,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:nth_paragraph_first_word": first_word_of_paragraph,
    "detectable_content:number_placeholders": placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_words,
    "change_case:english_capital": str.isupper,
    "change_case:english_lowercase": str.islower,
    "punctuation:no_comma": lambda text: "," not in text,
}
NEEDED: dict[str, tuple[str, ...]] = {
    name: check.__code__.co_varnames[1 : check.__code__.co_argcount] if hasattr(check, "__code__") else ()
    for name, check in CHECKS.items()
}


def why_not_checkable(instruction: str, arguments: Mapping[str, Any] | None) -> str | None:
    """None where the instruction can be checked; else what is missing."""
    if instruction not in CHECKS:
        return f"{instruction} needs a model of its own"
    given = {name for name, value in (arguments or {}).items() if value is not None}
    if arguments is None or not set(NEEDED[instruction]) <= given:
        return f"the arguments of {instruction} are not complete"
    try:  # an argument of another kind, a pattern that is none: known before any model is asked
        followed(instruction, arguments, "A word.\n\n* another")
    except (TypeError, ValueError, AttributeError, re.error) as error:
        return f"the arguments of {instruction} cannot be used: {error}"
    return None


def followed(instruction: str, arguments: Mapping[str, Any], answer: str) -> bool:
    """Strict: the answer as it is. An empty answer follows nothing."""
    given = {name: arguments[name] for name in NEEDED[instruction]}
    return bool(answer.strip()) and CHECKS[instruction](answer, **given)


def followed_loosely(instruction: str, arguments: Mapping[str, Any], answer: str) -> bool:
    """Loose: also without the first line, the last line, both, or the asterisks of markdown."""
    lines = answer.split("\n")
    cuts = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return any(followed(instruction, arguments, text) for cut in cuts for text in (cut, cut.replace("*", "")))
