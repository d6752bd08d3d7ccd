"""The rows that a round draws: every row once before any repeats, fixed by seed, round and client."""

import numpy as np
import pytest

from agent.train.data.sampling import round_seed, sample_rows

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


def test_rounds_join_without_gap_whatever_their_position() -> None:
    whole = sample_rows(7, 35, seed=1, round_number=1, client_number=2).tolist()
    parts = [r for n in range(1, 8) for r in sample_rows(7, 5, seed=1, round_number=n, client_number=2).tolist()]
    assert parts == whole


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
