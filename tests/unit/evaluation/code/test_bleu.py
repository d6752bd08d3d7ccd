"""BLEU against sacrebleu, and each rule of tokens and of smoothing."""

import math
import random
from collections import Counter

import pytest

from fedloom.evaluation.tasks.code.bleu import bleu, like_conala, like_mteval

WORDS = ["def", "x", "(", "y", ")", "return", "sum", "+", "1.5", "a-b", "self.size", "'text'", "&lt;", "[0]", "3,000"]


def corpus(seed: int, n: int = 40) -> list[tuple[str, str]]:
    """Pairs that have much in common."""
    drawn = random.Random(seed)
    pairs = []
    for _ in range(n):
        reference = drawn.choices(WORDS, k=drawn.randrange(1, 20))
        prediction = [word if drawn.random() < 0.8 else drawn.choice(WORDS) for word in reference]
        pairs.append((" ".join(prediction[: drawn.randrange(1, 21)]), " ".join(reference)))
    return pairs


@pytest.mark.parametrize("seed", range(5))
def test_it_is_sacrebleus_where_nothing_is_smoothed(seed: int) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    pairs = corpus(seed)
    tokens = [(" ".join(like_conala(one)), " ".join(like_conala(other))) for one, other in pairs]
    theirs = sacrebleu.corpus_bleu(
        [one for one, _ in tokens], [[other for _, other in tokens]], smooth_method="none", tokenize="none", force=True
    )
    assert 100 * bleu(pairs, "bleu_conala") == pytest.approx(theirs.score, abs=1e-9)


def test_tokens_are_those_of_mteval() -> None:
    tokenizers = pytest.importorskip("sacrebleu.tokenizers.tokenizer_13a")
    theirs = tokenizers.Tokenizer13a()
    drawn = random.Random(0)
    characters = "ab 01.,-'\"()[]{}&;:/\\_<>=+*%$#@!?~^|`\n"
    texts = ["".join(drawn.choices(characters, k=30)) for _ in range(500)]
    for text in [*texts, "x &quot;y&quot; &amp;lt; <skipped>3,000.5-7", "df.loc[df['a-b'] == 1.5, 'c']", ""]:
        assert like_mteval(text) == theirs(text).split()


@pytest.mark.parametrize("rule", ["bleu_13a", "bleu_codexglue"])
@pytest.mark.parametrize("n", [1, 40])
def test_smoothing_adds_one_to_each_order(rule: str, n: int) -> None:
    """From the definition, on texts that both rules cut at spaces."""
    pairs = [(one.replace("&lt;", "<"), other.replace("&lt;", "<")) for one, other in corpus(3, n)]
    if rule == "bleu_13a":
        pairs = [(" ".join(like_mteval(one)), " ".join(like_mteval(other))) for one, other in pairs]
    logs = 0.0
    for order in range(1, 5):
        matched = total = 0
        for prediction, reference in pairs:
            there, wanted = (
                Counter(zip(*(text.split()[start:] for start in range(order)), strict=False))
                for text in (prediction, reference)
            )
            matched += sum(min(count, wanted[gram]) for gram, count in there.items())
            total += sum(there.values())
        logs += math.log((matched + 1) / (total + 1)) / 4
    long, short = (sum(len(pair[side].split()) for pair in pairs) for side in (1, 0))
    assert bleu(pairs, rule) == pytest.approx(math.exp(logs + min(0, 1 - long / short)), abs=1e-12)


def test_tokens_of_the_conala_site() -> None:
    assert " ".join(like_conala("my_var.someThing(\"a\", 'b')")) == "my_var . some Thing ( ` a ` , ` b ` )"


def test_no_match_is_nothing_unless_it_is_smoothed() -> None:
    pairs = [("a b c d", "e f g h")]
    assert bleu(pairs, "bleu_conala") == 0
    assert bleu(pairs, "bleu_codexglue") == pytest.approx((1 / 5 * 1 / 4 * 1 / 3 * 1 / 2) ** 0.25)


@pytest.mark.parametrize("rule", ["bleu_13a", "bleu_conala", "bleu_codexglue"])
def test_bounds(rule: str) -> None:
    same = [(reference, reference) for _, reference in corpus(0)]
    assert bleu(same, rule) == pytest.approx(1)
    assert bleu([("", reference) for _, reference in same], rule) == 0
    assert bleu([], rule) == 0
