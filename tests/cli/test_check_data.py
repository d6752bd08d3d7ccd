"""``fedloom agent check-data``: alone, and with a tiny model's tokenizer in a real training child."""

import html
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.support.chat_templates import THOUGHT_CUT_OFF, WITHOUT_SYSTEM
from tests.support.forks import quick_children

HOSTILE = "<script>alert(1)</script> & \x1b[31m"


@pytest.fixture
def home(tmp_path: Path) -> Callable[..., Path]:
    """Makes an agent's folder with rows of the data `notes`."""

    def make(rows: list[dict[str, Any]], settings: str = "") -> Path:
        folder = tmp_path / "agent"
        folder.mkdir(exist_ok=True)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "agent.toml").write_text(f'[data.notes]\npath = "rows.jsonl"\nheld_out = 0.2\n{settings}')
        return folder

    return make


ROWS = [{"prompt": f"What is {n}?", "completion": f"the number {n}"} for n in range(20)]


def test_without_a_campaign_it_says_that_no_tokenizer_was_asked(run: Run, home: Callable[..., Path]) -> None:
    ran = run("agent", "check-data", "notes", "--home", home(ROWS))
    assert ran.code == 0, ran.err
    assert "no tokenizer is used without --campaign" in ran.out
    assert "assistant: [[the number 19]]" in ran.out
    report = json.loads(run("agent", "check-data", "notes", "--home", home(ROWS), "--json").out)
    assert (report["records"], report["train"] + report["held_out"], report["tokens"], report["unusable"]) == (
        20,
        20,
        None,
        None,
    )


def test_data_that_cannot_be_used_ends_with_1_and_an_unknown_name_with_2(run: Run, home: Callable[..., Path]) -> None:
    folder = home([*ROWS, {"prompt": "x"}, {"prompt": "y"}])
    ran = run("agent", "check-data", "notes", "--home", folder)
    assert ran.code == 1
    assert "line 21 has no column 'completion' (completion); it has 'prompt'; also line 22" in " ".join(ran.out.split())
    assert "the data cannot be used: 2 errors" in ran.out
    report = run("agent", "check-data", "notes", "--home", folder, "--json")
    assert (report.code, json.loads(report.out)["unusable"]) == (1, "2 errors")
    unknown = run("agent", "check-data", "gone", "--home", folder)
    assert unknown.code == 2
    assert "[data.gone]" in unknown.err
    assert run("agent", "check-data", "notes", "--home", folder / "gone").code == 2


def test_a_broken_table_is_a_settings_error_of_its_own_data_alone(run: Run, home: Callable[..., Path]) -> None:
    folder = home(ROWS, '[data.other]\npath = "rows.jsonl"\nseperator = ";"\n')
    assert run("agent", "check-data", "notes", "--home", folder).code == 0
    broken = run("agent", "check-data", "other", "--home", folder)
    problem = "line 6: data.other.seperator: there is no such setting; did you mean 'separator'?"
    assert (broken.code, broken.out) == (2, "")
    assert broken.err.strip() == f"fedloom: {folder / 'agent.toml'}, {problem}"
    unknown = run("agent", "check-data", "gone", "--home", folder).err
    assert "its data: notes, other" in " ".join(unknown.replace("│", " ").split())


def test_errors_of_one_kind_share_a_line(run: Run, home: Callable[..., Path]) -> None:
    folder = home([*ROWS, *({"prompt": "x", f"column {n}": 1} for n in range(40)), {"completion": "x"}])
    ran = run("agent", "check-data", "notes", "--home", folder)
    lines = ran.out.splitlines()
    start = lines.index("errors")
    assert "line 21 has no column 'completion'" in lines[start + 1]
    assert "; also line 22, " in lines[start + 1]
    assert ", and 30 more" in lines[start + 1]
    assert "line 61 has no column 'prompt'" in lines[start + 2]


class Tags(HTMLParser):
    """Collects the tags of a page and the text inside its <mark> elements."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.marked = ""
        self._in_mark = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self._in_mark = tag == "mark"

    def handle_endtag(self, tag: str) -> None:
        self._in_mark = False

    def handle_data(self, data: str) -> None:
        self.marked += data if self._in_mark else ""


def test_the_page_is_self_contained_and_escapes_rows_and_the_terminal_gets_no_control_codes(
    run: Run, home: Callable[..., Path], tmp_path: Path
) -> None:
    folder = home([{"prompt": HOSTILE, "completion": f"c {HOSTILE}", HOSTILE: 1}, {HOSTILE: "x"}], "held_out = 0.0\n")
    settings = (folder / "agent.toml").read_text().replace("held_out = 0.2\n", "")
    (folder / "agent.toml").write_text(settings)
    file = tmp_path / "page.html"
    ran = run("agent", "check-data", "notes", "--home", folder, "--report", file)
    assert ran.code == 1
    assert "\x1b" not in ran.out
    assert "[[c <script>alert(1)</script> & \\x1b[31m]]" in ran.out
    assert file.stat().st_mode & 0o777 == 0o600, "the page quotes rows, so only its owner may read it"
    text = file.read_text()
    page = Tags()
    page.feed(text)
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert "src=" not in text
    assert "http:" not in text
    assert "https:" not in text
    assert "c <script>alert(1)</script> & \\x1b[31m" in page.marked
    assert "default-src 'none'" in text


# --- with a tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    from tests.support.tiny import make_model

    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def campaign(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a campaign file for the tiny model."""
    monkeypatch.setattr("agent.child.supervisor.DEFAULT_ARGV", tuple(quick_children.argv()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def make(**changes: Any) -> Path:
        file = tmp_path / "campaign.json"
        sections = {"base": {"model": str(model)}, "data": {"name": "notes"}, "rounds": 1}
        training = {"steps": 1, "max_length": 60}
        file.write_text(json.dumps({"name": "c", "training": training, **sections, **changes}))
        return file

    return make


@pytest.mark.train
def test_with_a_campaign_it_shows_what_is_trained_on_token_by_token(
    run: Run, home: Callable[..., Path], campaign: Callable[..., Path]
) -> None:
    talk = [
        {"role": "user", "content": "What is 1?"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "so"},
    ]
    long = [{"role": "user", "content": "x" * 100}, {"role": "assistant", "content": "y"}]
    cut = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "the river " * 30}]
    rows = [{"messages": messages} for messages in (talk, long, cut)]
    folder = home(rows)
    (folder / "agent.toml").write_text('[data.notes]\npath = "rows.jsonl"\nheld_out = 0.0\n')
    file = campaign()
    ran = run("agent", "check-data", "notes", "--home", folder, "--campaign", file)
    assert ran.code == 0, ran.err
    assert "template chat, at most 60 tokens" in " ".join(
        ran.out.split()
    )  # the path's length decides where the line wraps
    assert "[[one<|im_end|>]]" in ran.out
    assert "more tokens are cut off)" in ran.out
    report = json.loads(run("agent", "check-data", "notes", "--home", folder, "--campaign", file, "--json").out)
    assert (report["records"], report["train"], report["tokens"]["cut"]) == (3, 2, 1)
    assert report["skipped"] == {"no room for its completion in 60 tokens": 1}
    assert report["tokens"]["lengths"]["most"] > 60
    spans = [piece["text"] for piece in report["examples"][0]["completions"][0]["spans"] if piece["supervised"]]
    assert spans[0] == "one<|im_end|>"


@pytest.mark.train
def test_the_campaign_sets_the_kind_and_the_owner_the_template(
    run: Run, home: Callable[..., Path], campaign: Callable[..., Path]
) -> None:
    folder = home([{"prompt": "What?", "chosen": "the river", "rejected": f"bread {n}"} for n in range(9)])
    (folder / "own.jinja").write_text(
        "{% for m in messages %}({{ m['role'] }}){{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}(assistant){% endif %}"
    )
    with (folder / "agent.toml").open("a") as settings:
        settings.write('template = "own.jinja"\n')
    ran = run("agent", "check-data", "notes", "--home", folder, "--campaign", campaign(kind="dpo"))
    assert ran.code == 0, ran.err
    assert "chosen and rejected (dpo)" in ran.out
    assert "template own.jinja" in " ".join(ran.out.split())
    assert "(user)What?(assistant)[[the river<|im_end|>]]" in ran.out
    as_sft = run("agent", "check-data", "notes", "--home", folder, "--campaign", campaign())
    assert as_sft.code == 1
    assert "has no column 'completion' (completion)" in as_sft.out


@pytest.mark.train
def test_rows_that_the_template_refuses_are_errors_by_line(
    run: Run, home: Callable[..., Path], campaign: Callable[..., Path]
) -> None:
    folder = home(ROWS[:3])
    (folder / "own.jinja").write_text("{% if '1' in messages[0]['content'] %}{{ raise_exception('no') }}{% endif %}x")
    with (folder / "agent.toml").open("a") as settings:
        settings.write('template = "own.jinja"\n')
    ran = run("agent", "check-data", "notes", "--home", folder, "--campaign", campaign())
    assert ran.code == 1
    assert "rows.jsonl: line 2: the chat template refuses a row of these turns: user, assistant" in ran.out


@pytest.mark.train
def test_what_a_template_does_not_read_and_what_acts_as_a_control_token_is_noticed(
    run: Run, home: Callable[..., Path], campaign: Callable[..., Path], tmp_path: Path
) -> None:
    folder = home([*ROWS[:3], {"prompt": "say it", "completion": "done<|im_end|>"}])
    trimming = WITHOUT_SYSTEM.replace("m['content']", "m['content'] | trim")
    (folder / "own.jinja").write_text("{{ strftime_now('%d %b %Y') }}" + trimming)
    with (folder / "agent.toml").open("a") as settings:
        settings.write('template = "own.jinja"\n')
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    with (folder / "rows.jsonl").open("a") as rows:
        rows.write(json.dumps({"prompt": system, "completion": "so"}) + "\n")
        rows.write(json.dumps({"prompt": "body?", "completion": "    return x"}) + "\n")
    page = tmp_path / "page.html"
    ran = run("agent", "check-data", "notes", "--home", folder, "--campaign", campaign(), "--report", page)
    assert ran.code == 0, ran.err
    shown = " ".join(ran.out.split())
    for notice in (
        "rows.jsonl: the template reads the clock: all owners train with the day on which the campaign was created; "
        "this check uses today",
        "rows.jsonl: line 4 has a special token of the tokenizer in its text, which acts as a control token: "
        "'<|im_end|>'",
        "rows.jsonl: line 5: the template drops a system turn",
        "rows.jsonl: line 6: the template trims the completion, or changes white space in it, such as indentation",
    ):
        assert notice in shown
        assert html.escape(notice) in page.read_text()


@pytest.mark.train
def test_a_template_that_drops_part_of_a_completion_makes_the_data_unusable_unless_its_owner_allows_it(
    run: Run, home: Callable[..., Path], campaign: Callable[..., Path]
) -> None:
    folder = home([*ROWS[:9], {"prompt": "x", "completion": "<think>SECRET</think>36"}])
    (folder / "own.jinja").write_text(THOUGHT_CUT_OFF)
    with (folder / "agent.toml").open("a") as settings:
        settings.write('template = "own.jinja"\n')
    ran = run("agent", "check-data", "notes", "--home", folder, "--campaign", campaign())
    assert ran.code == 1
    assert "rows.jsonl: line 10: the template drops part of the completion, or changes it" in " ".join(ran.out.split())
    with (folder / "agent.toml").open("a") as settings:
        settings.write("template_may_drop = true\n")
    ran = run("agent", "check-data", "notes", "--home", folder, "--campaign", campaign(), "--json")
    report = json.loads(ran.out)
    assert (ran.code, report["n_errors"]) == (0, 0)
    assert [notice["message"] for notice in report["notices"]] == [
        ": the template drops part of the completion, or changes it"
    ]
