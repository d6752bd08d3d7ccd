"""The agent's network traffic: calls to the coordinator, heartbeats, transfers, retries."""
