"""Valid files, changed in a few places."""

from collections.abc import Sequence

from hypothesis import strategies as st

_MAX_BYTES = 1 << 16


@st.composite
def mutated(draw: st.DrawFn, valid: Sequence[bytes], pieces: Sequence[bytes]) -> bytes:
    """One of the valid files after one to six changes.

    pieces: what the format gives a meaning to, such as quotes and brackets.
    """
    content = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.one_of(st.integers(0, 3), st.integers(0, len(content))))
        match draw(st.sampled_from(["piece", "bytes", "delete", "repeat", "cut"])):
            case "piece":
                content[at:at] = draw(st.sampled_from(pieces))
            case "bytes":
                content[at : at + length] = draw(st.binary(max_size=8))
            case "delete":
                del content[at : at + length]
            case "repeat":
                content[at:at] = content[at : at + length] * draw(st.integers(1, 9))
            case _:
                del content[at:]
        del content[_MAX_BYTES:]
    return bytes(content)
