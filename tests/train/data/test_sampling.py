"""The rows that a round draws: every row once before any repeats, fixed by seed, round and client."""

import numpy as np
import pytest

from agent.train.data.sampling import round_seed, sample_rows, sorted_in_steps

pytestmark = pytest.mark.train


def draw(round_number: int, n_rows: int = 10, need: int = 4, seed: int = 3, client_number: int = 1) -> list[int]:
    return sample_rows(n_rows, need, seed=seed, round_number=round_number, client_number=client_number).tolist()


def test_no_row_comes_again_before_all_have_come() -> None:
    stream = [row for r in range(1, 6) for row in draw(r)]
    assert sorted(stream[:10]) == list(range(10))
    assert sorted(stream[10:]) == list(range(10))
    assert stream[:10] != stream[10:]


def test_a_round_is_a_pure_function_of_seed_round_and_client() -> None:
    assert draw(4) == draw(4)
    assert len({tuple(draw(1, n_rows=50, need=20, seed=s, client_number=c)) for s in (0, 1) for c in (0, 1)}) == 4


def test_more_rows_than_there_are_repeat_evenly() -> None:
    chosen = sample_rows(3, 10, seed=0, round_number=2, client_number=0)
    assert chosen.shape == (10,)
    counts = np.bincount(chosen, minlength=3)
    assert counts.min() >= 3
    assert counts.max() <= 4


@pytest.mark.parametrize(("n_rows", "need"), [(7, 5), (7, 7), (60, 40), (10, 3), (41, 40), (9, 6), (1000, 999)])
def test_rounds_join_without_gap_and_none_has_a_row_twice(n_rows: int, need: int) -> None:
    rounds = [draw(number, n_rows, need) for number in range(1, 2 * n_rows // need + 6)]
    assert all(len(set(rows)) == need for rows in rounds)
    stream = [row for rows in rounds for row in rows]
    for start in range(0, len(stream) - n_rows + 1, n_rows):
        assert sorted(stream[start : start + n_rows]) == list(range(n_rows)), "an epoch has all rows"


@pytest.mark.parametrize(("n_rows", "need"), [(10, 5), (100, 20), (7, 1), (12, 12)])
def test_epochs_in_which_rounds_end_are_plain_permutations(n_rows: int, need: int) -> None:
    for e in range(3):
        epoch = np.random.default_rng((3, 1, e)).permutation(n_rows).tolist()
        rounds = range(e * n_rows // need + 1, (e + 1) * n_rows // need + 1)
        assert [row for number in rounds for row in draw(number, n_rows, need)] == epoch


def test_the_order_of_an_epoch_is_drawn_anew_but_for_the_rows_that_its_first_round_has_already() -> None:
    plain = np.random.default_rng((3, 1, 1)).permutation(10).tolist()
    third = draw(3)  # rows 8 to 11 of the stream: the last two of one epoch, the first two of the next
    assert third[2:] == [row for row in plain if row not in third[:2]][:2]
    rest = draw(4) + draw(5)
    assert rest == [row for row in plain if row not in third[2:]]


@pytest.mark.parametrize(("n_rows", "need"), [(1, 7), (5, 5), (10, 25), (3, 100)])
def test_rounds_of_all_rows_are_stretches_of_permutations_one_after_another(n_rows: int, need: int) -> None:
    epochs = [np.random.default_rng((3, 1, e)).permutation(n_rows) for e in range(4 * need // n_rows + 1)]
    stream = np.concatenate(epochs).tolist()
    for round_number in range(1, 5):
        assert draw(round_number, n_rows, need) == stream[(round_number - 1) * need : round_number * need]


def test_the_last_round_that_a_job_can_name_is_drawn_as_any_other() -> None:
    assert len(draw(2**31 - 1, n_rows=3, need=1000)) == 1000


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        draw(1, n_rows=0)


def test_seeds_differ_by_round_and_client() -> None:
    seeds = {round_seed(seed=1, round_number=r, client_number=c) for r in range(1, 5) for c in range(4)}
    assert len(seeds) == 16
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_clients_of_two_digits_draw_rows_of_their_own() -> None:
    drawn = {tuple(draw(1, n_rows=50, need=20, client_number=number)) for number in (0, 1, 10, 11, 100)}
    assert len(drawn) == 5


def test_rows_are_sorted_by_length_within_their_steps_and_stay_in_them() -> None:
    lengths = np.array([9, 2, 5, 7, 5, 1])
    indices = np.array([0, 4, 2, 1, 3, 5, 5, 0])
    assert sorted_in_steps(indices, lengths, 4).tolist() == [1, 4, 2, 0, 5, 5, 3, 0]
    assert sorted_in_steps(indices, lengths, 1).tolist() == indices.tolist()
