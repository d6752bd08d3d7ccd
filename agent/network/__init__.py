"""All that goes over the network: calls to the coordinator, heartbeats, transfers, retries."""
