"""Checks an owner's data for the owner."""

from agent.orders.check import Checked, CheckRequest
from agent.train.data.checking import check_data
from agent.train.local.model import find_model
from agent.train.order_context import OrderContext

_USE_SETTINGS = "map it to its folder under [models] in agent.toml"


def check(order: CheckRequest, context: OrderContext) -> Checked:
    """Check the data with the base model's tokenizer. Raises TaskFailed."""
    files = find_model(order, context, remote_code=order.remote_code, remedy=_USE_SETTINGS)
    return Checked(report=check_data(order, files.tokenizer, files.limits, context.report))
