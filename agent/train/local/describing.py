"""What a base model is, and what its tokenizer makes of texts. No weights are loaded."""

from agent.orders.on_base.chat_prompt import ChatPromptRequest, ChatPrompts
from agent.orders.on_base.count_tokens import CountTokensRequest, TokensCounted
from agent.orders.on_base.describe import Described, DescribeRequest
from agent.train.data.rendering.chat_template import ChatTemplate
from agent.train.local.model import find_model
from agent.train.order_context import OrderContext


def describe(order: DescribeRequest, context: OrderContext) -> Described:
    """Find the base model. Raises TaskFailed if it cannot be found or read."""
    files = find_model(order, context)
    return Described(
        fingerprint=files.fingerprint,
        n_positions=files.limits.n_positions,
        has_chat_template=bool(files.tokenizer.chat_template),
    )


def count_tokens(order: CountTokensRequest, context: OrderContext) -> TokensCounted:
    """Count tokens. Raises TaskFailed if the base model cannot be found."""
    tokenizer = find_model(order, context).tokenizer
    return TokensCounted(n_tokens=[len(tokenizer.encode(text, add_special_tokens=False)) for text in order.texts])


def chat_prompts(order: ChatPromptRequest, context: OrderContext) -> ChatPrompts:
    """Render conversations. Raises TaskFailed: data if there is no chat template, or if it refuses the roles."""
    template = ChatTemplate(find_model(order, context).tokenizer, None, None)
    texts = [
        template.render([each.role for each in talk], [each.content for each in talk], generation_prompt=True)
        for talk in order.conversations
    ]
    return ChatPrompts(texts=texts)
