"""Code that coordinator and agent share: wire messages, states, adapter files, algorithms. It imports neither."""
