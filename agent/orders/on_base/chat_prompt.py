"""The order to render conversations in the model's own chat template."""

from typing import ClassVar, Literal

from agent.orders.on_base.model import LocalOrder
from agent.orders.protocol import Message


class ChatMessage(Message):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatPrompts(Message):
    """The prompts, in the order of the conversations."""

    type: Literal["chat_prompts"] = "chat_prompts"
    texts: list[str]


class ChatPromptRequest(LocalOrder[ChatPrompts]):
    """Render each conversation up to where the model's reply begins."""

    handler: ClassVar[str] = "agent.train.local.describing:chat_prompts"

    type: Literal["chat_prompt"] = "chat_prompt"
    conversations: list[list[ChatMessage]]
