"""What no setting of one agent stops, as docs/data-owner.md says: these tests keep its words true.

Whoever changes the code so that one of them fails has stopped an attack, and changes the words too.
"""

from pathlib import Path

import pytest

from tests.attacks.attacked import attacked
from tests.support.processes import ROOT

pytestmark = [pytest.mark.train, pytest.mark.deep]

WORDS = " ".join((ROOT / "docs" / "data-owner.md").read_text().split())


def test_two_agents_over_the_same_rows_have_a_record_each(model: Path, tmp_path: Path) -> None:
    assert "Two agents in folders of their own, over the same rows, count each for itself" in WORDS
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with attacked(tmp_path / name, model, 'accept = "any"\nmax_campaigns = 1\n') as owner:
            assert owner.campaign(f"of-{name}").begin().train().result is not None


def test_a_file_that_its_owner_rewrites_under_another_name_is_another(model: Path, tmp_path: Path) -> None:
    assert "A copy of your rows in another form is not known as the same rows" in WORDS
    with attacked(tmp_path, model, 'accept = "any"\nmax_campaigns = 1\n') as owner:
        assert owner.campaign("first").begin().train().result is not None
        rows = (owner.home / "patients.jsonl").read_text()
        (owner.home / "rewritten.jsonl").write_text(rows.replace(", ", ",  "))
        owner.write_settings(
            'accept = "any"\nmax_campaigns = 1\n', '[data.other]\npath = "rewritten.jsonl"\nheld_out = 0.0\n'
        )
        assert owner.campaign("second", data={"name": "other"}).begin().train().result is not None


def test_later_adapters_are_others_work_and_are_not_checked(model: Path, tmp_path: Path) -> None:
    assert "Adapter 0 is checked; later adapters cannot be" in WORDS
    with attacked(tmp_path, model, 'accept = "any"\n') as owner:
        campaign = owner.campaign("later").begin()
        answers = {campaign.evaluate(round=number).result["metrics"]["held_out_loss"] for number in range(4)}
        assert len(answers) == 1, "of one adapter under four numbers"
        assert owner.totals("later").n_evaluations == 4


def test_the_company_is_the_coordinators_word(model: Path, tmp_path: Path) -> None:
    assert "Who takes part is the coordinator's word" in WORDS
    with attacked(tmp_path, model, 'accept = "any"\n') as owner:
        assert owner.campaign("invented").begin().train(n_clients=1_000, n_in_round=1_000).result is not None
