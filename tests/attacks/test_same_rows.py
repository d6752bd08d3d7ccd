"""Rows under several names: a second data source over one file, and campaigns that differ in one row.

Two names of one file, each with limits of its own, halved what each limit was worth. Two batches of 40 and 41 rows
of one order gave, by the difference of their means, the row in between, and a floor of 40 rows did not help.

Now the owner's record counts by rows and not by names: the file, its copies and links, and the folders that hold
it, are one body of rows. So few campaigns use it (`max_campaigns`), the losses that leave have three digits, and
each campaign takes an approval. Their updates are exact all the same: only differential privacy would bound what
two of them tell, which the documentation says.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attacks.attacked import DATA, ROWS, Attacked, attacked, lines
from tests.attacks.hostile import refusal

pytestmark = [pytest.mark.train, pytest.mark.deep]

ONE_CAMPAIGN = 'accept = "any"\nmax_campaigns = 1\n'
WORDS = "it is campaign 2 in 30 days that uses these rows, and policy.max_campaigns = 1"


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Attacked]:
    """An agent whose rows one campaign has used, which is all that its owner allows."""
    with attacked(tmp_path_factory.mktemp("used"), model, ONE_CAMPAIGN) as running:
        assert running.campaign("first").begin().train().result is not None
        yield running


def the_file_itself(home: Path) -> str:
    return str(home / "patients.jsonl")


def a_copy(home: Path) -> str:
    return str(shutil.copy(home / "patients.jsonl", home / "copied.jsonl"))


def a_symbolic_link(home: Path) -> str:
    (home / "linked.jsonl").symlink_to(home / "patients.jsonl")
    return str(home / "linked.jsonl")


def a_hard_link(home: Path) -> str:
    (home / "hard.jsonl").hardlink_to(home / "patients.jsonl")
    return str(home / "hard.jsonl")


def a_path_with_detours(home: Path) -> str:
    return str(home / ".." / home.name / "patients.jsonl")


def a_folder_with_it(home: Path) -> str:
    folder = home / "all"
    folder.mkdir()
    shutil.copy(home / "patients.jsonl", folder / "of-may.jsonl")
    (folder / "of-june.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    return str(folder)


ALIASES = [the_file_itself, a_copy, a_symbolic_link, a_hard_link, a_path_with_detours, a_folder_with_it]


@pytest.mark.parametrize("alias", ALIASES)
def test_rows_under_another_name_are_the_same_rows(used: Attacked, alias: Callable[[Path], str]) -> None:
    path = alias(used.home)
    try:
        used.write_settings(ONE_CAMPAIGN, f'{DATA}[data.other]\npath = "{path}"\nheld_out = 0.0\n')
        campaign = used.campaign(f"as-{alias.__name__.replace('_', '-')}", data={"name": "other"})
        said = refusal(campaign.prepare())
        assert WORDS in used.says("policy", "--explain", campaign.id)
    finally:
        used.write_settings(ONE_CAMPAIGN)
    assert said == f"refused-by-policy: refused by this agent's policy: {WORDS}"
    assert WORDS in used.printed()
    assert used.totals(campaign.id).n_trainings == 0


def test_the_same_file_with_other_columns_is_the_same_rows(used: Attacked) -> None:
    swapped = 'prompt = "completion"\ncompletion = "prompt"\n'
    try:
        data = f'{DATA}[data.swapped]\npath = "patients.jsonl"\n{swapped}held_out = 0.0\n'
        used.write_settings(ONE_CAMPAIGN, data)
        said = refusal(used.campaign("columns", data={"name": "swapped"}).prepare())
    finally:
        used.write_settings(ONE_CAMPAIGN)
    assert said.endswith(WORDS)


def test_a_table_that_is_pointed_to_other_rows_does_not_lose_its_count(used: Attacked) -> None:
    """Its file is replaced by one with a row more, and then by a link elsewhere and back."""
    path, other = used.home / "patients.jsonl", used.home / "elsewhere.jsonl"
    try:
        path.write_text(lines([*ROWS, {"prompt": "new", "completion": "row"}]))
        assert refusal(used.campaign("grown").prepare()).endswith(WORDS)
        shutil.copy(path, other)
        path.unlink()
        path.symlink_to(other)
        assert refusal(used.campaign("moved").prepare()).endswith(WORDS)
    finally:
        path.unlink()
        path.write_text(lines(ROWS))


def test_other_rows_have_their_own_count(used: Attacked) -> None:
    (used.home / "others.jsonl").write_text(
        lines([{"prompt": f"What is {i}?", "completion": f"number {i}"} for i in range(60)])
    )
    try:
        used.write_settings(ONE_CAMPAIGN, '[data.others]\npath = "others.jsonl"\nheld_out = 0.0\n')
        trained = used.campaign("of-others", data={"name": "others"}, evaluation={"every": 0}).begin().train()
    finally:
        used.write_settings(ONE_CAMPAIGN)
    assert trained.result is not None


def test_two_campaigns_that_differ_in_one_row(model: Path, tmp_path: Path) -> None:
    """Under the default quota the second one may be trained, once it is accepted; the losses tell no row."""
    with attacked(tmp_path, model, 'accept = "any"\n') as owner:
        means = {}
        for n_rows in (40, 41):
            training = {"steps": 1, "batch_size": n_rows, "learning_rate": 1e-30, "optimizer": "sgd"}
            result = owner.campaign(f"of-{n_rows}", training=training).begin().train().result
            assert result is not None
            means[n_rows] = result["metrics"]["train_loss_mean"]
            assert means[n_rows] == float(f"{means[n_rows]:.3g}")
        assert owner.campaign("of-42", training={"steps": 1, "batch_size": 42}).begin().train().result is not None
        said = refusal(owner.campaign("of-43", training={"steps": 1, "batch_size": 43}).prepare())
        told = owner.says("policy")
    assert said.endswith("it is campaign 4 in 30 days that uses these rows, and policy.max_campaigns = 3")
    assert "only differential privacy would bound it" in told
