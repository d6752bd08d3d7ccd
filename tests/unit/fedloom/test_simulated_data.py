"""The data of a simulation: broken settings are told, and the clients' files say what the owner's file says."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.configuration.settings import load_settings
from agent.data.reading import read_rows
from agent.data.rows import Row, Turn
from fedloom.errors import SimulationError
from fedloom.simulation.clients import write_records
from fedloom.simulation.partition_plan import PartitionKind, PartitionPlan
from fedloom.simulation.simulation import Simulation
from shared.campaign.file import parse_campaign
from shared.kinds import find

CAMPAIGN = """\
name: clinic
base: {model: tiny}
training: {steps: 1}
data: {name: notes}
rounds: 1
selection: {minimum: 1}
"""


def simulation(folder: Path, settings: str) -> Simulation:
    (folder / "agent.toml").write_text(settings)
    plan = PartitionPlan(PartitionKind.IID)
    return Simulation(parse_campaign(CAMPAIGN), load_settings(folder / "agent.toml"), 1, plan, seed=0)


def test_a_broken_table_of_the_campaigns_data_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=r"agent.toml, line 3: data.notes.promt: there is no such"):
        simulation(tmp_path, '[data.notes]\npath = "a.jsonl"\npromt = "q"\n')
    simulation(tmp_path, '[data.notes]\npath = "a.jsonl"\n[data.other]\npromt = "q"\n')


def test_clients_read_what_the_file_says_whatever_its_form(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('0.10,"a\nb",Be brief.\n')
    settings = '[data.notes]\npath = "a.csv"\ncolumns = ["prompt", "completion", "rule"]\nsystem = "rule"\n'
    simulated = simulation(tmp_path, settings)
    write_records(tmp_path / "rows.jsonl", simulated.partition().records)
    expected = [Row("0.10", "", "a\nb", (Turn("system", "Be brief."),))]
    assert read_rows(simulated.source, find("sft")).rows == expected
    assert read_rows(simulated.source.at(tmp_path / "rows.jsonl"), find("sft")).rows == expected


def test_clients_read_numbers_as_the_file_spells_them(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": 1e3, "completion": 0.10}\n')
    simulated = simulation(tmp_path, '[data.notes]\npath = "a.jsonl"\nnumbers = true\n')
    write_records(tmp_path / "rows.jsonl", simulated.partition().records)
    assert read_rows(simulated.source.at(tmp_path / "rows.jsonl"), find("sft")).rows == [Row("1e3", "", "0.10")]


def test_what_is_not_read_of_the_owners_files_is_told_as_the_clients_copies_no_longer_show_it(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_text('prompt,completion\nsay it, "a"\n')
    (tmp_path / "rows" / "readme.md").write_text("old rows\n")
    simulated = simulation(tmp_path, '[data.notes]\npath = "rows"\n')
    told = "\n".join(map(str, simulated.partition().notices))
    assert "readme.md" in told
    assert "a.csv: line 2" in told
    assert "blank before a quote" in told
    assert told == "\n".join(map(str, read_rows(simulated.source, find("sft")).notices.problems))


def test_settings_of_reading_are_part_of_what_identifies_a_simulation(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": 1, "completion": 2}\n')
    facts = [
        simulation(tmp_path, f'[data.notes]\npath = "a.jsonl"\n{line}\n').facts()
        for line in ("", "numbers = true", 'system = "x"', 'ignore_keys = ["a"]', 'weight = "x"')
    ]
    assert all(a != b for number, a in enumerate(facts) for b in facts[:number])


def test_a_model_that_the_campaign_file_names_by_its_folder_is_mapped_for_the_clients(tmp_path: Path) -> None:
    """Agents take no folder from a campaign. Here one person writes both."""
    simulated = simulation(tmp_path, '[data.notes]\npath = "a.jsonl"\n[models]\n"org/other" = "/srv/other"\n')
    assert simulated.settings_of_clients == simulated.settings
    for name, models in (("/srv/tiny", {"/srv/tiny": Path("/srv/tiny")}), ("org/tiny", {}), ("../tiny", {})):
        base = simulated.spec.base.model_copy(update={"model": name})
        named = replace(simulated, spec=simulated.spec.model_copy(update={"base": base}))
        assert named.settings_of_clients.models == {"org/other": Path("/srv/other")} | models
