"""What callers may cost: addresses without a key, agents, connections, handshakes, headers and bodies."""
