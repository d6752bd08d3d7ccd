"""Models whose fields are described by the text below them, in JSON schemas and in documentation.

pydantic's own ``use_attribute_docstrings`` reads these texts when a class is made: it looks for the class on the stack,
and in all modules, which took a fifth of the coordinator's start. Few processes ever need the texts.
"""

import ast
import inspect
import textwrap
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic_core import CoreSchema


class Described(BaseModel):
    """Base class of models with such texts."""

    # a process builds the validators of the models that it uses, when it first does
    model_config = ConfigDict(defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in descriptions(cls).items():
            if name in properties:
                properties[name].setdefault("description", text)
        return schema


@cache
def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The text of each field that has one, those of base classes included."""
    texts: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            texts |= _below_its_names(kind)
    for name, field in model.model_fields.items():
        if field.description is not None:
            texts[name] = field.description
    return {name: texts[name] for name in model.model_fields if name in texts}


def _below_its_names(kind: type) -> dict[str, str]:
    """The texts below the annotated names of one class; none if it was not written in a file."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return {}
    [definition] = ast.parse(textwrap.dedent(source)).body
    texts = {}
    for above, below in pairwise(definition.body if isinstance(definition, ast.ClassDef) else []):
        if isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name) and isinstance(below, ast.Expr):
            text = below.value.value if isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                texts[above.target.id] = inspect.cleandoc(text)
    return texts
