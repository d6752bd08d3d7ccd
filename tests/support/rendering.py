"""Renders a single row, as training renders many."""

from typing import Any

from agent.data.rows import Row
from agent.train.data.rendering.templates import AnyTemplate, Renderer
from agent.train.data.rendering.texts import Text


def render(row: Row, template: AnyTemplate, tokenizer: Any) -> Text:
    """The text of a row by a template, with the date of the moment."""
    return Renderer(template, tokenizer).render(row)
