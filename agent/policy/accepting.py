"""Whether the owner's settings accept a campaign without asking."""

from agent.configuration.settings import AgentSettings


def accepts_by_rule(settings: AgentSettings, digest: str, data: str) -> bool:
    """Whether the settings accept a campaign that none of them refuses.

    Args:
        settings: the owner's.
        digest: the campaign's whole digest. Its id accepts nothing: a coordinator gives ids as it likes.
        data: the name of its data.
    """
    match settings.policy.accept:
        case "any":
            return True
        case "matching":
            source = settings.data.get(data)
            return source is not None and digest in (source.campaigns or ())
        case "ask":
            return False
