"""Keys, signatures and spoken digests. The signature of a fixed text is pinned: it must not change by chance."""

import re

import pytest
from pydantic import ValidationError

from shared.signing.keys import SigningKey, is_signed, spoken
from shared.signing.statements import FIRST, RosterSigned, digest_of, statement_of, text_of

KEY = SigningKey.from_text("01" * 32)
STATEMENT = RosterSigned(campaign_id="c", number=3, previous=FIRST, history=0, round=2, agents=["ada", "bob"])
TEXT = (
    f'{{"campaign_id":"c","number":3,"previous":"{FIRST}","history":0,'
    '"kind":"roster","round":2,"agents":["ada","bob"]}'
)


def test_a_signature_is_of_one_text_and_one_key() -> None:
    signature = KEY.sign("text")
    assert is_signed("text", signature, KEY.public)
    assert not is_signed("text ", signature, KEY.public)
    assert not is_signed("text", signature, SigningKey.generate().public)
    assert not is_signed("text", signature[:-2] + ("00" if signature[-2:] != "00" else "01"), KEY.public)


@pytest.mark.parametrize("garbage", ["", "zz", "00", "0" * 63, "ä" * 64, "0" * 64, "f" * 128])
def test_what_is_no_key_or_signature_signs_nothing(garbage: str) -> None:
    assert not is_signed("text", garbage, KEY.public)
    assert not is_signed("text", KEY.sign("text"), garbage)


def test_a_signature_means_nothing_outside_of_fedloom() -> None:
    """The key signs no text as it is: otherwise a text for another purpose could pass for a statement."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    raw = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(KEY.to_text())).sign(b"text").hex()
    assert not is_signed("text", raw, KEY.public)


def test_a_statement_is_written_and_signed_in_one_way() -> None:
    assert text_of(STATEMENT) == TEXT
    assert statement_of(TEXT) == STATEMENT
    assert KEY.sign(TEXT) == KEY.sign(TEXT)
    assert KEY.sign(TEXT).startswith("347f01e69c8c622389fe908e943af6fe")
    assert len(digest_of(TEXT)) == 64


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace('"roster"', '"rota"'),
        TEXT.replace('"round":2', '"round":0'),
        TEXT.replace('"round":2', '"round":2,"more":1'),
        TEXT.replace('"ada"', '"a\\u001bda"'),
        TEXT.replace('"number":3', '"number":-1'),
        "[]",
        "",
    ],
)
def test_a_text_that_is_no_statement_is_not_read(text: str) -> None:
    with pytest.raises(ValidationError):
        statement_of(text)


def test_a_digest_is_spoken_as_eight_groups_of_digits() -> None:
    assert re.fullmatch(r"(\d{5} ){7}\d{5}", spoken("f" * 64))
    assert spoken("0" * 63 + "7") == "00000 " * 7 + "00007"
    assert len({spoken(digest_of(str(number))) for number in range(1000)}) == 1000
