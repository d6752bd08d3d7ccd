"""How replies to DROP are scored: exact match and F1 of bags of words, the best over the accepted answers.

The rules are those of the set's authors (AllenNLP, Apache-2.0) as lm-evaluation-harness (MIT) applies them: the whole
reply is one span, also where an answer has several.
"""

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


def score(row: Mapping[str, Any], replies: Sequence[str]) -> dict[str, float]:
    """Score a reply, in a list as the harness has it. row: with ``answers``, each a list of spans."""
    return best_scores(replies[0], row["answers"])


def best_scores(reply: str, answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """``em`` and ``f1`` of a reply, each the best over the answers that are not empty."""
    predicted = normalized(reply)
    scores = [_scores(predicted, spans) for spans in answers if spans[0].strip()]
    return {
        "em": max((em for em, _ in scores), default=0.0),
        "f1": max((f1 for _, f1 in scores), default=0.0),
    }


def normalized(text: str) -> str:
    """Text in lower case, without articles and punctuation, numbers as floats."""
    words = (_fixed(word) for word in re.split(" |-", text.lower()))
    return " ".join(word for word in words if word.strip()).strip()


def _scores(predicted: str, spans: Sequence[str]) -> tuple[float, float]:
    """Exact match, and F1 rounded to two places as the authors do."""
    golds = [normalized(span) for span in spans]
    bag = set(predicted.split())
    best = max(_f1(bag, set(gold.split())) for gold in golds)
    return float(golds == [predicted]), round(best / len(golds), 2)


def _f1(predicted: set[str], gold: set[str]) -> float:
    """F1 of two bags of words; 0 if the gold one has numbers, none of which is predicted."""
    numbers = {word for word in gold if _is_number(word)}
    if numbers and not numbers & predicted:
        return 0.0
    both = len(gold & predicted)
    precision = both / len(predicted) if predicted else 1.0
    recall = both / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _fixed(word: str) -> str:
    bare = word if _is_number(word) else "".join(each for each in word if each not in _PUNCTUATION)
    number = str(float(bare)) if _is_number(bare) else bare
    return " ".join(_ARTICLES.sub(" ", number).split())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
