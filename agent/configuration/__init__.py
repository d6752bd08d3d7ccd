"""What the owner writes: agent.toml, with the policy, and the words for what is wrong in it."""
