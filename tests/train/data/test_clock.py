"""A template that reads the clock sees one date in a campaign; one that draws at random is refused."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.data.own_template import OwnTemplate
from agent.data.rows import Row
from agent.errors import TaskFailed
from agent.train.data.cache import DataCache
from agent.train.data.rendering.templates import Renderer
from agent.train.data.tokens import TokenizedData
from shared.kinds import find
from tests.support import chat_templates as templates
from tests.support.rendering import render
from tests.support.tiny import CHAT_TEMPLATE, byte_level_bpe
from tests.train.conftest import Lab

pytestmark = pytest.mark.train

JANUARY, JUNE = date(2026, 1, 31), date(2026, 6, 1)
READ = "{{ strftime_now('%d %b %Y') }} "
NOTICE = "the template reads the clock: all owners train with the day on which the campaign was created"


def renderer(text: str, day: date | None) -> Renderer:
    return Renderer(OwnTemplate(name="own.jinja", text=text), byte_level_bpe(), day)


def prepared(lab: Lab, folder: Path, template: Path | None, day: date | None) -> TokenizedData:
    """The owner's data, from a cache on the disk."""
    source = lab.source(template=template)
    return DataCache().prepare(
        source,
        "chat",
        200,
        byte_level_bpe(),
        lab.fingerprint,
        folder,
        lambda _: None,
        kind=find("sft"),
        day=day,
    )


class Clock(datetime):
    """A clock that stands still, in place of the one that transformers reads."""

    moment = datetime(2030, 5, 17, 23, 59, tzinfo=UTC)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls.moment.replace(tzinfo=tz)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock)
    return Clock


def test_tokens_and_cache_key_depend_on_the_campaigns_day_and_not_on_the_clock(
    lab: Lab, tmp_path: Path, clock: type[Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "own.jinja"
    template.write_text(templates.WITH_DATE)
    first = prepared(lab, tmp_path, template, JANUARY)
    monkeypatch.setattr(clock, "moment", datetime(2030, 8, 2, tzinfo=UTC))
    again = prepared(lab, tmp_path, template, JANUARY)
    assert len(list(tmp_path.glob("tokens-*.npz"))) == 1
    afresh = prepared(lab, tmp_path / "other", template, JANUARY)
    assert first.train.sha256 == again.train.sha256 == afresh.train.sha256
    text = byte_level_bpe().decode(first.train.examples(0)[0]["input_ids"])
    assert "Today Date: 31 Jan 2026" in text
    other = prepared(lab, tmp_path, template, JUNE)
    assert len(list(tmp_path.glob("tokens-*.npz"))) == 2
    assert "Today Date: 01 Jun 2026" in byte_level_bpe().decode(other.train.examples(0)[0]["input_ids"])
    assert first.notices == other.notices == (f"the data: {NOTICE}",)


def test_the_day_is_no_part_of_the_key_of_a_template_that_does_not_read_the_clock(lab: Lab, tmp_path: Path) -> None:
    days = [prepared(lab, tmp_path, None, day) for day in (JANUARY, JUNE)]
    assert len(list(tmp_path.glob("tokens-*.npz"))) == 1
    assert days[0].notices == ()


def test_a_job_renders_with_its_campaigns_day(lab: Lab, tmp_path: Path) -> None:
    template = tmp_path / "own.jinja"
    template.write_text(templates.WITH_DATE)
    cache = tmp_path / "cache"
    for day in (JANUARY, JUNE, JUNE):
        job = lab.prepare_job(created_on=day, max_length=200)
        result = lab.run(lab.work(job, data=lab.source(template=template), cache=cache))
        assert result.notices == [f"data.d: {NOTICE}"]
    assert len(list(cache.glob("tokens-*.npz"))) == 2


def test_chat_sees_the_moment(clock: type[Clock]) -> None:
    own = OwnTemplate(name="own.jinja", text=templates.WITH_DATE)
    assert "Today Date: 17 May 2030" in render(Row("q", "", "a"), own, byte_level_bpe()).exchanges[0].prompt
    rendered = renderer(templates.WITH_DATE, JUNE).render(Row("q", "", "a")).exchanges[0].prompt
    assert "Today Date: 01 Jun 2026" in rendered
    assert "Today Date: 17 May 2030" in render(Row("q", "", "a"), own, byte_level_bpe()).exchanges[0].prompt


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        (READ, True),
        ("{% set now = strftime_now %}{{ now('%Y') }}", True),
        ("{% macro today() %}{{ strftime_now('%Y') }}{% endmacro %}{{ today() }}", True),
        ("{% if false %}{% set strftime_now = 1 %}{% endif %}{{ strftime_now('%Y') }}", True),
        ("{% for m in messages %}{{ strftime_now('%Y') if loop.first }}{% endfor %}", True),
        ("{# strftime_now('%Y') #}", False),
        ("{{ 'strftime_now' }}", False),
        ("{% raw %}{{ strftime_now('%Y') }}{% endraw %}", False),
        ("{% set strftime_now = '2020' %}{{ strftime_now }}", False),
        ("{% macro strftime_now(x) %}2020{% endmacro %}{{ strftime_now('%Y') }}", False),
    ],
)
def test_whether_a_template_reads_the_clock_is_read_from_its_syntax(
    text: str,
    *,
    reads: bool,
    clock: type[Clock],
) -> None:
    assert renderer(text + CHAT_TEMPLATE, JANUARY).reads_clock == reads
    at = [renderer(text + CHAT_TEMPLATE, day).render(Row("q", "", "a")).exchanges[0].prompt for day in (JANUARY, None)]
    assert (at[0] != at[1]) == reads


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{{ ['a', 'b'] | random }}", "random"),
        ("{{ [['a', 'b']] | map('random') | join }}", "random"),
        ("{{ lipsum(n=1) }}", "lipsum"),
        ("{% for m in messages %}{% if loop.last %}{{ 'ab' | random }}{% endif %}{% endfor %}", "random"),
    ],
)
def test_a_template_that_draws_at_random_is_refused(text: str, what: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        renderer(text + CHAT_TEMPLATE, JANUARY)
    message = "the template own.jinja draws at random ({}), so every owner would have another text"
    assert str(caught.value) == message.format(what)
    renderer("{{ messages | map(attribute='random') | join }}" + CHAT_TEMPLATE, JANUARY)  # a key of that name
