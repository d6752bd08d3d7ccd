"""Evaluation items that occur in training rows."""

import time
from collections.abc import Iterator

import pytest

from fedloom.evaluation.data.overlap import Occurrence, main_text, overlap, overlaps, words_of
from fedloom.evaluation.tasks.base import Item

SENTENCE = "Operating profit rose to EUR 13.1 mn from EUR 8.7 mn ."


def items(*texts: str) -> list[Item]:
    return [
        Item(str(place), "", {"kind": "news", "text": text, "label": "positive"}) for place, text in enumerate(texts)
    ]


def test_an_item_is_found_anywhere_in_a_row_exactly_or_normalised() -> None:
    training = [
        "Nothing of it.",
        f"What is the sentiment?\n\n{SENTENCE.upper().replace(' ', '  ')}\n\npositive",
        f"What is the sentiment?\n\n{SENTENCE}\n\npositive",
        f"{SENTENCE} {SENTENCE}",
    ]
    found = overlap(items(SENTENCE, "Another sentence that nobody has ever trained on ."), training)
    assert found.occurrences == [Occurrence("0", 2, "exact", 3)]  # the first exact one
    assert (found.n_items, found.n_rows, found.n_exact) == (2, 4, 1)
    assert overlap(items(SENTENCE), training[:2]).occurrences == [Occurrence("0", 1, "normalised", 1)]


@pytest.mark.parametrize(
    "training",
    [
        "operating profit rose to eur 13.1 mn from eur 8.7 mn",
        "Operating\nprofit rose, to EUR\u00a013.1 mn from EUR 8.7 mn!",
        "\uff2fperating profit rose to EUR 13.1 mn from EUR 8.7 mn",  # a full-width letter
    ],
)
def test_case_punctuation_space_and_unicode_form_do_not_hide_an_item(training: str) -> None:
    (found,) = overlap(items(SENTENCE), [training]).occurrences
    assert found.match == "normalised"


@pytest.mark.parametrize(
    "training",
    [
        "Operating profit rose to EUR 13.1 mn from EUR 8.6 mn .",
        "Operating profit rose to EUR 13.1 mn from EUR 8.7 mnx .",
        "Operating profit rose to EUR 13.1 mn from",
        "",
    ],
)
def test_a_row_that_differs_in_a_word_is_another(training: str) -> None:
    assert overlap(items(SENTENCE), [training]).occurrences == []


def test_a_short_item_occurs_only_where_a_whole_row_is_it() -> None:
    short = items("Sales rose .")
    assert overlap(short, ["In May sales rose again, which is no surprise."]).occurrences == []
    assert overlap(short, ["sales rose"]).occurrences == [Occurrence("0", 0, "normalised", 1)]


def test_items_that_begin_alike_are_told_apart() -> None:
    both = items("one two three four five six", "one two three four five seven", "one two three four five")
    found = overlap(both, ["zero one two three four five seven eight"])
    assert [each.item for each in found.occurrences] == ["1", "2"]


def test_scripts_without_spaces_are_compared_by_character() -> None:
    chinese = "\u516c\u53f8\u6536\u5165\u589e\u957f\u5f88\u5feb"
    assert len(words_of(chinese)) == 8
    assert overlap(items(chinese), [f"\u4eca\u5929{chinese}\u3002"]).n_exact == 1


def test_what_is_looked_for_can_be_chosen_and_items_without_it_are_not_looked_for() -> None:
    rows = [Item("0", "", {"premise": "a b c d e f", "options": ["x"]}), Item("1", "", {"options": ["x"]})]
    assert main_text(rows[0]) == "a b c d e f"
    assert overlap(rows, ["a b c d e f"]).n_items == 1
    found = overlap(items(SENTENCE), ["positive"], text_of=lambda item: str(item.content["label"]))
    assert found.n_exact == 1


def test_the_warning_says_how_many_of_how_many() -> None:
    found = overlap(items(SENTENCE, "Another sentence that nobody has ever trained on ."), [SENTENCE, "x"])
    assert found.warning("fpb") == "1 of 2 items of fpb (50.0%) occurs in the 2 training rows, 1 exactly"
    assert overlap(items(SENTENCE), ["x"]).warning("fpb") == ""
    both = overlap(items(SENTENCE, SENTENCE.lower()), [SENTENCE])
    assert both.warning("fpb") == "2 of 2 items of fpb (100.0%) occur in the 1 training rows, 1 exactly"


def test_the_items_of_several_tasks_are_looked_for_in_one_pass() -> None:
    n_read = 0

    def training() -> Iterator[str]:
        nonlocal n_read
        for text in (SENTENCE.upper(), SENTENCE, "x"):
            n_read += 1
            yield text

    wanted = {"fpb": items("Nothing of it is in there .", SENTENCE), "none": [], "nwgi": items(SENTENCE)}
    found = overlaps(wanted, training())
    assert n_read == 3
    assert {task: (each.occurrences, each.n_items, each.n_rows) for task, each in found.items()} == {
        "fpb": ([Occurrence("1", 1, "exact", 2)], 2, 3),
        "none": ([], 0, 3),
        "nwgi": ([Occurrence("0", 1, "exact", 2)], 1, 3),
    }


def test_training_rows_are_read_once_and_a_large_set_takes_seconds() -> None:
    def training() -> Iterator[str]:
        for n in range(20_000):
            yield f"row {n} says that value {n % 977} of company {n} rose by {n % 13} percent in the year {n % 31}"

    wanted = items(*(f"value {n % 977} of company {n} rose by {n % 13} percent" for n in range(14_000)))
    started = time.process_time()
    found = overlap(wanted, training())
    assert len(found.occurrences) == 14_000
    assert found.n_rows == 20_000
    assert time.process_time() - started < 10  # under 2 s on an idle core
