"""An engine that looks when a test says so."""

from coordinator.engine.loop import Engine


async def look(engine: Engine) -> list[str]:
    """Have an engine process all due campaigns. Returns their ids."""
    due = await engine._due()
    for campaign_id in due:
        await engine._work(campaign_id)
    return list(due)
