"""ROUGE-L of two texts (Lin, 2004), as the package rouge-score gives it without a stemmer."""

import re

_OTHER = re.compile(r"[^a-z0-9]+")


def tokens_of(text: str) -> list[str]:
    """Words of Latin letters without marks and of digits; in other scripts there are none."""
    return _OTHER.sub(" ", text.lower()).split()


def rouge_l(reference: str, prediction: str) -> float:
    """F1 of the longest common subsequence of words."""
    true, predicted = tokens_of(reference), tokens_of(prediction)
    if not true or not predicted:
        return 0.0
    common = _longest_common(true, predicted)
    if not common:
        return 0.0
    precision, recall = common / len(predicted), common / len(true)
    return 2 * precision * recall / (precision + recall)


def _longest_common(first: list[str], second: list[str]) -> int:
    """The length of the longest common subsequence, by Hyyrö's bit-parallel method: a bit for each word of *first*."""
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(first)) - 1
    rest = every
    for word in second:
        match = rest & places.get(word, 0)
        rest = ((rest + match) | (rest - match)) & every
    return len(first) - rest.bit_count()
