"""BLEU-4 of a corpus, with one reference each, in [0, 1]. The rule is part of the number: tokens, and smoothing.

bleu_13a        tokens of mteval-v13a, +1 to matches and counts of each order: what the ``bleu`` of Hugging Face
                Evaluate gives with ``smooth=True``
bleu_conala     tokens of the CoNaLa site's scorer, not smoothed
bleu_codexglue  tokens at spaces, +1 to matches and counts of each order
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

ORDERS = 4

Counts = tuple[int, int, tuple[int, ...], tuple[int, ...]]
"""Tokens of prediction and reference, and n-grams that match and that there are, by order."""


def at_spaces(text: str) -> list[str]:
    return text.split()


def like_mteval(text: str) -> list[str]:
    """Tokens as mteval-v13a has them: punctuation apart, except within numbers."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in text:
        for entity, character in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
            text = text.replace(entity, character)
    text = f" {text} "
    for pattern, parts in MTEVAL:
        text = pattern.sub(parts, text)
    return text.split()


MTEVAL = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def like_conala(text: str) -> list[str]:
    """Tokens as the CoNaLa site's scorer has them: letters, digits and underscores together, camelCase apart."""
    text = re.sub(r"([^A-Za-z0-9_])", r" \1 ", text)
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    return text.replace('"', "`").replace("'", "`").split()


TOKENS: dict[str, Callable[[str], list[str]]] = {
    "bleu_13a": like_mteval,
    "bleu_conala": like_conala,
    "bleu_codexglue": at_spaces,
}
SMOOTHED = {"bleu_13a", "bleu_codexglue"}

RULES = {
    "bleu_13a": "BLEU-4 of the corpus, tokens of mteval-v13a, smoothed by +1 an order (Hugging Face Evaluate)",
    "bleu_conala": "BLEU-4 of the corpus, tokens and rule of the CoNaLa site's scorer, not smoothed",
    "bleu_codexglue": "BLEU-4 of the corpus, tokens at spaces, smoothed by +1 an order (CodeXGLUE)",
}


def bleu(pairs: Sequence[tuple[str, str]], rule: str) -> float:
    """BLEU of predictions and references by a rule of ``RULES``."""
    n_predicted = n_reference = 0
    matches, totals = [0] * ORDERS, [0] * ORDERS
    for prediction, reference in pairs:
        predicted, referenced, matched, total = _counts(prediction, reference, rule)
        n_predicted, n_reference = n_predicted + predicted, n_reference + referenced
        for order in range(ORDERS):
            matches[order] += matched[order]
            totals[order] += total[order]
    extra = 1 if rule in SMOOTHED else 0
    precisions = [(m + extra) / (t + extra) if t + extra else 0.0 for m, t in zip(matches, totals, strict=True)]
    if n_predicted == 0 or min(precisions) == 0:
        return 0.0
    brevity = 1.0 if n_predicted > n_reference else math.exp(1 - n_reference / n_predicted)
    return brevity * math.exp(sum(map(math.log, precisions)) / ORDERS)


@lru_cache(maxsize=20_000)  # intervals are drawn from the same pairs a thousand times
def _counts(prediction: str, reference: str, rule: str) -> Counts:
    tokens = TOKENS[rule]
    predicted, referenced = tokens(prediction), tokens(reference)
    matches, totals = [], []
    for order in range(1, ORDERS + 1):
        there, wanted = _ngrams(predicted, order), _ngrams(referenced, order)
        matches.append((there & wanted).total())
        totals.append(there.total())
    return len(predicted), len(referenced), tuple(matches), tuple(totals)


def _ngrams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[start : start + order]) for start in range(len(tokens) - order + 1))
