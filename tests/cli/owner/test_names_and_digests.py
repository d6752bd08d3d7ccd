"""By what an owner names a campaign: names and ids are the coordinator's choice, a whole digest is nobody's."""

import json
from typing import Any

import pytest

from agent.configuration.open_policy import with_open_policy
from agent.record.campaigns import Decision, KnownCampaign
from agent.workspace import Identity, Workspace
from shared.campaign.digest import spec_sha256
from tests.agent.parts import campaign_spec
from tests.cli.conftest import Ran, Run
from tests.cli.owner.known import known_campaign

NOTES = '[data.notes]\npath = "notes.jsonl"\n'


class Home:
    """A home whose record has campaigns that wait. Its coordinator cannot be reached."""

    def __init__(self, folder: Workspace, run: Run) -> None:
        self.folder, self._run = folder, run

    def asks(self, campaign_id: str, **changes: Any) -> KnownCampaign:
        """Note a campaign, as when the coordinator asks. changes: of its specification."""
        known = known_campaign()
        spec = campaign_spec(**changes)
        digest = spec_sha256(spec, known.terms.created_on)
        self.folder.record.campaigns.add(campaign_id, known.coordinator, digest, spec, known.terms)
        return self.now(campaign_id)

    def now(self, campaign_id: str) -> KnownCampaign:
        found = self.folder.record.campaigns.find(campaign_id)
        assert found is not None
        return found

    def says(self, verb: str, *arguments: object) -> Ran:
        return self._run("agent", verb, *arguments, "--home", self.folder.home)


@pytest.fixture
def home(tmp_path: Any, run: Run) -> Home:
    folder = Workspace(tmp_path / "home")
    folder.create()
    folder.record.create()
    folder.write_identity(
        Identity(coordinator="http://127.0.0.1:9", agent_id="a1", name="ada", secret="s", signing_key="0" * 64)
    )
    folder.settings_file.write_text(with_open_policy(NOTES))
    return Home(folder, run)


def impostor(home: Home, honest: KnownCampaign, disguise: str) -> KnownCampaign:
    match disguise:
        case "the name is the id":
            return home.asks("c9", rounds=9, name=honest.id)
        case "the name is the name":
            return home.asks("c9", rounds=9, name=honest.name)
        case "the name is the beginning of the digest":
            return home.asks("c9", rounds=9, name=honest.spec_sha256[:12])
        case "the id is the name":
            return home.asks(honest.name, rounds=9, name="other")
        case "the id is the digest":
            return home.asks(honest.spec_sha256, rounds=9, name="other")
    raise AssertionError(disguise)


@pytest.mark.parametrize(
    ("disguise", "named"),
    [
        ("the name is the id", "id"),
        ("the name is the name", "name"),
        ("the name is the beginning of the digest", "beginning"),
        ("the id is the name", "name"),
        ("the id is the digest", "digest"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("verb", ["approve", "refuse", "pause", "leave", "forget", "policy", "campaigns"])
def test_a_campaign_in_the_clothes_of_another_is_not_taken_for_it(
    home: Home, disguise: str, named: str, is_first: bool, verb: str
) -> None:
    honest = home.asks("c1", name="honest")
    other = impostor(home, honest, disguise)
    if not is_first:
        honest = home.asks("c1", name="honest", rounds=5)
        honest = home.asks("c1", name="honest")  # asked last
    text = {
        "id": honest.id,
        "name": honest.name,
        "beginning": honest.spec_sha256[:12],
        "digest": honest.spec_sha256,
    }[named]
    option = {"policy": ["--explain"], "campaigns": ["--spec"]}.get(verb, [])
    ran = home.says(verb, *option, text)
    assert ran.code == 2
    assert f"{text} may be one of 2 campaigns; name the one that you mean by its whole digest:" in ran.err
    for each in (honest, other):
        assert f"  id {each.id}\n  digest {each.spec_sha256}" in ran.err
        assert home.now(each.id).decision is Decision.WAITING


@pytest.mark.parametrize("named", ["small", "c1", 12, 63, 6])
def test_yes_needs_the_whole_digest(home: Home, named: str | int) -> None:
    known = home.asks("c1")
    text = known.spec_sha256[:named] if isinstance(named, int) else named
    ran = home.says("approve", text, "--yes")
    assert ran.code == 2
    assert "--yes approves only what is named by its whole digest" in ran.err
    command = f"fedloom agent approve {known.spec_sha256} --yes --home {home.folder.home}"
    assert f"\n  {command}\n" in ran.err
    assert home.now("c1").decision is Decision.WAITING
    ran = home.says("approve", *command.split()[3:5])
    assert (ran.code, home.now("c1").decision) == (0, Decision.ACCEPTED), ran.err
    assert f"you take part in small, by the digest\n{known.spec_sha256}" in ran.out


def test_what_changed_after_its_owner_looked_is_not_accepted(home: Home) -> None:
    seen = home.asks("c1")
    now = home.asks("c1", training={"steps": 5, "batch_size": 2, "max_length": 64, "learning_rate": 0.2})
    for named in (seen.spec_sha256, "c1", "small"):
        assert home.says("approve", named, "--yes").code != 0
        assert home.now("c1").decision is Decision.WAITING
    assert home.says("approve", now.spec_sha256.upper(), "--yes").code == 0


def test_without_a_terminal_the_command_to_type_has_the_digest(home: Home) -> None:
    known = home.asks("c1")
    ran = home.says("approve", "small")
    assert ran.code == 2
    assert "there is no terminal to ask on. Look at the campaign above; this approves exactly it:" in ran.err
    assert f"fedloom agent approve {known.spec_sha256} --yes" in ran.err
    assert home.now("c1").decision is Decision.WAITING


def test_a_campaign_that_is_created_twice_on_one_day_is_the_one_that_waits(home: Home) -> None:
    first = home.asks("c1")
    assert home.says("approve", first.spec_sha256, "--yes").code == 0
    again = home.asks("c2")
    assert again.spec_sha256 == first.spec_sha256
    assert home.says("leave", first.spec_sha256).code == 2
    assert home.says("approve", again.spec_sha256, "--yes").code == 0
    assert home.now("c2").decision is Decision.ACCEPTED
    for campaign_id in ("c3", "c4"):
        home.asks(campaign_id)
    ran = home.says("approve", first.spec_sha256, "--yes")
    assert ran.code == 2
    assert (
        "2 campaigns; name the one that you mean by its whole digest, or by its id where digests are equal" in ran.err
    )
    assert home.says("refuse", "c3").code == 0
    assert home.says("approve", first.spec_sha256, "--yes").code == 0
    assert home.now("c4").decision is Decision.ACCEPTED


def test_the_whole_specification_can_be_seen(home: Home) -> None:
    params = {"mu": 0.5}
    known = home.asks("c1", algorithm={"name": "fedprox", "params": params}, lora={"rank": 2, "freeze_a": True})
    printed = json.loads(home.says("campaigns", "small", "--spec").out)
    assert printed == known.spec.model_dump(mode="json") | {"created_on": known.terms.created_on.isoformat()}
    assert (printed["lora"]["freeze_a"], printed["algorithm"]["params"]) == (True, params)
    home.asks("c2", name="another-one")
    [line] = json.loads(home.says("campaigns", "c1", "--json").out)
    assert line["spec"] == printed
    assert (line["id"], line["spec_sha256"]) == ("c1", known.spec_sha256)
    shown = home.says("campaigns", known.spec_sha256).out
    assert shown.count(known.spec_sha256) == 3, "in the words, and in the two commands"
    assert "another-one" not in shown
    assert home.says("campaigns", "--spec").code == 2
    assert home.says("campaigns", "nobody").code == 5


def test_the_list_in_words_prints_whole_digests_and_each_refusal_on_a_line(home: Home) -> None:
    known, other = home.asks("c1"), home.asks("c2", rounds=5)
    settings = '[data.patients]\npath = "x.jsonl"\n[policy]\nrank = [4, 8]\n'
    home.folder.settings_file.write_text(with_open_policy(settings))
    shown = home.says("campaigns", "--verbose").out
    assert all(each.spec_sha256 in shown for each in (known, other))
    refused = [line.strip() for line in shown.split("refused by")[1].splitlines()]
    assert refused[0] == "- lora.rank is 2, and policy.rank = [4, 8]"
    assert refused[1].startswith("- the campaign's data is notes, and data.notes = no table")
    assert "patients" not in shown
