"""Who may call an endpoint, read from the dependencies that check it."""

from enum import StrEnum
from typing import Any, get_args

from fastapi.dependencies.models import Dependant

from coordinator.web.authentication import AgentDep, CallerDep, OperatorDep, declared_role


class Role(StrEnum):
    """Who may call an endpoint; the name of its security scheme."""

    OPERATOR = "OperatorKey"
    AGENT = "AgentSecret"


SCHEMES = {
    Role.OPERATOR: {
        "type": "http",
        "scheme": "bearer",
        "description": "An operator's key, as `Authorization: Bearer KEY`. The coordinator writes the first one to "
        "`operator.key` in its data folder when it starts for the first time.",
    },
    Role.AGENT: {
        "type": "http",
        "scheme": "bearer",
        "description": "An agent's secret, as `Authorization: Bearer SECRET`. The agent makes it when it enrols.",
    },
}

IN_WORDS = {
    (): "Anybody, without a key.",
    (Role.OPERATOR,): "Operators, with their key.",
    (Role.AGENT,): "Agents, with their secret.",
    (Role.OPERATOR, Role.AGENT): "Operators with their key, and agents with their secret.",
}


def _checker(annotated: Any) -> Any:
    return get_args(annotated)[1].dependency


_BY_CHECKER = {
    _checker(OperatorDep): (Role.OPERATOR,),
    _checker(AgentDep): (Role.AGENT,),
    _checker(CallerDep): (Role.OPERATOR, Role.AGENT),
}


def roles_of(dependant: Dependant) -> tuple[Role, ...]:
    """The roles that may call an endpoint; none if it asks for no key."""
    return _BY_CHECKER.get(declared_role(dependant), ())
