"""The owner's policy: what the settings refuse of a campaign and of each piece of work, and what they let out.

A refusal names the key of agent.toml.
"""
