"""With any chat template, a completion is learnt whole, or the row is refused in words; nothing else happens."""

import pytest
from hypothesis import strategies as st

from agent.data.own_template import OwnTemplate
from agent.data.rows import Row, Turn
from agent.errors import TaskFailed
from shared.wire.tasks.leases import FailureKind
from tests.fuzz import bounds
from tests.fuzz.mutations import mutated
from tests.support import chat_templates
from tests.support.tiny import CHAT_TEMPLATE, byte_level_bpe
from tests.train.data.tokenized import supervised_texts, tokenized

pytestmark = pytest.mark.train

PIECES = [
    *(b"{{", b"}}", b"{%", b"%}", b"{%-", b"{#", b"#}", b"{% for m in messages %}", b"{% endfor %}", b"{% if true %}"),
    *(b"{{ messages }}", b"{{ messages[0]['content'] }}", b"{{ raise_exception('no') }}", b"{{ strftime_now('%Y') }}"),
    *(b"{{ ''.__class__.__mro__ }}", b"{{ 9 ** 9 ** 5 }}", b"{{ 'x' * 10 ** 12 }}", b"{{ range(10 ** 12) }}"),
    *(b"{% include 'x' %}", b"{% import 'os' as os %}", b"{{ cycler }}", b"{{ self }}", b"{{ x.y.z }}", b"| trim"),
    *(b"{% generation %}", b"{% endgeneration %}", b"<|im_end|>", b"\xff", b"\x00", b"{% set messages = [] %}"),
]
ROWS = [
    Row("Why?", "", "because the river turns"),
    Row("and then?", "", "so it goes", before=(Turn("system", "Be brief."), Turn("user", "a"), Turn("assistant", "b"))),
]


def templates() -> list[bytes]:
    known = [text for name, text in vars(chat_templates).items() if name.isupper() and isinstance(text, str)]
    return [text.encode() for text in (CHAT_TEMPLATE, *known)]


@bounds.examples(25)
def test_a_completion_is_learnt_whole_or_the_row_is_refused(examples: int) -> None:
    tokenizer = byte_level_bpe()

    def holds(content: bytes, row: Row) -> None:
        template = OwnTemplate(name="own.jinja", text=content.decode(errors="replace"))
        try:
            [found], notices = tokenized([row], template, tokenizer)
        except TaskFailed as error:  # the template has an error
            refused = error
        else:
            for told in (found.error, found.skip_reason, *notices):
                assert row.completion not in told  # a message leaves the machine, a row does not
            if found.full:
                assert row.completion in supervised_texts(tokenizer, found.full[0])[-1]
            else:
                assert found.error or found.skip_reason
            return
        assert refused.failure.kind is FailureKind.DATA
        assert row.completion not in str(refused)

    bounds.check(holds, examples, deadline_s=25, content=mutated(templates(), PIECES), row=st.sampled_from(ROWS))
