"""The line of each setting of a TOML file, whatever the file's form."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.configuration.toml_lines import Location, index_lines

FILE = '''\
# [not.a.table]
top = 1  # a = 2
"dotted.key" . 'quoted' = { x = 1, "y z" = [ { q = "a, b = 3 }" }, 2 ] }
text = """
[also.no.table]
a = "b" \\
""" # c
ends_in_quotes = """a"""""
literal = \'\'\'
x = 'y' # z
\'\'\'
windows = 'C:\\'

[ data . notes ]
path = "rows # 1.jsonl"
list = [
  "a", # one
  # [none]
  ["]", 'b'],
]
when = 1979-05-27 07:32:00
a.b.c = true
[[array]]
x = 1
[array.sub]
y = 1
[[array]]
x = 2
[[array.inner]]
z = 3
'''

WHERE: dict[Location, int] = {
    ("top",): 2,
    ("dotted.key",): 3,
    ("dotted.key", "quoted", "y z", 0, "q"): 3,
    ("dotted.key", "quoted", "y z", 1): 3,
    ("text",): 4,
    ("ends_in_quotes",): 8,
    ("literal",): 9,
    ("windows",): 12,
    ("data",): 14,
    ("data", "notes"): 14,
    ("data", "notes", "path"): 15,
    ("data", "notes", "list"): 16,
    ("data", "notes", "list", 0): 17,
    ("data", "notes", "list", 1): 19,
    ("data", "notes", "list", 1, 1): 19,
    ("data", "notes", "when"): 21,
    ("data", "notes", "a", "b", "c"): 22,
    ("array", 0): 23,
    ("array", 0, "x"): 24,
    ("array", 0, "sub", "y"): 26,
    ("array", 1): 27,
    ("array", 1, "x"): 28,
    ("array", 1, "inner", 0, "z"): 30,
}


@pytest.mark.parametrize("location", WHERE)
def test_tables_keys_and_elements_have_their_lines_whatever_stands_in_texts_and_comments(location: Location) -> None:
    assert index_lines(FILE)[location] == WHERE[location]


def locations(value: Any, location: Location = ()) -> Iterator[Location]:
    if location:
        yield location
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from locations(part, (*location, key))


def test_exactly_the_locations_that_tomllib_reads_are_known() -> None:
    assert set(index_lines(FILE)) == set(locations(tomllib.loads(FILE)))


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)
KEYS = TEXTS | st.sampled_from(["a", "b.c", "[x]", "#", "=", '"', "'", "\\"])
VALUES = st.recursive(
    st.integers(0, 9) | st.booleans() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def written(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{quoted(key)} = {written(part)}' for key, part in value.items())} }}"
    if isinstance(value, list):
        return f"[{', # ]'.join(f'{chr(10)}{written(part)}' for part in value)}{chr(10)}]"
    return quoted(value) if isinstance(value, str) else str(value).lower()


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=3), max_size=3))
def test_any_file_has_a_line_for_all_that_it_holds(tables: dict[str, dict[str, Any]]) -> None:
    text = ""
    expected: dict[Location, int] = {}
    for name, table in tables.items():
        expected[name,] = text.count("\n") + 1
        text += f"[{quoted(name)}] # [x]\n"
        for key, value in table.items():
            expected[name, key] = text.count("\n") + 1
            text += f"{quoted(key)} = {written(value)}\n\n"
    found = index_lines(text)
    assert set(found) == set(locations(tomllib.loads(text)))
    assert {location: found[location] for location in expected} == expected
