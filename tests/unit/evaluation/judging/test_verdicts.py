"""What a judge's reply says, by FastChat's rules, against values by hand."""

import pytest

from fedloom.evaluation.judging.verdicts import Winner, rating_of, winner_of, winner_of_both


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("Rating: [[5]]", 5.0),
        ("Rating: [[7.5]]", 7.5),
        ("[[8.]]", 8.0),
        ("Rating: [6]", 6.0),
        ("As in [2], Rating: [[9]]", 9.0),
        ("[[3]] and then [[9]]", 3.0),
        ("[[1]]", 1.0),
        ("[[10]]", 10.0),
        ("[[0]]", None),
        ("[[11]]", None),
        ("[[11]], no, [[9]]", None),
        ("[[0.99]]", None),
        ("[[-3]]", None),
        ("[[" + "9" * 400 + "]]", None),
        ("[[rating]]", None),
        ("[[5/10]]", None),
        ("[[٥]]", None),
        ("A very good answer, ten of ten.", None),
        ("", None),
    ],
)
def test_a_rating(reply: str, rating: float | None) -> None:
    assert rating_of(reply) == rating


@pytest.mark.parametrize(
    ("reply", "winner"),
    [
        ("[[A]]", "A"),
        ("so [[B]].", "B"),
        ("[[C]]", "tie"),
        ("[[A]] and again [[A]]", "A"),
        ("[[A]], or rather [[B]]", None),
        ("[A]", None),
        ("[[a]]", None),
        ("both", None),
    ],
)
def test_a_winner(reply: str, winner: Winner | None) -> None:
    assert winner_of(reply) == winner


@pytest.mark.parametrize(
    ("as_given", "swapped", "winner"),
    [
        ("A", "B", "A"),
        ("B", "A", "B"),
        ("tie", "tie", "tie"),
        ("A", "A", "tie"),  # whoever is first
        ("B", "B", "tie"),
        ("A", "tie", "tie"),
        ("tie", "A", "tie"),
        (None, "A", None),
        ("A", None, None),
    ],
)
def test_without_one_opinion_in_both_orders_it_is_a_tie(
    as_given: Winner | None, swapped: Winner | None, winner: Winner | None
) -> None:
    assert winner_of_both(as_given, swapped) == winner
