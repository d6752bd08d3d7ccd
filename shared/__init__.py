"""What both sides speak: wire messages, states, adapter files, algorithms. Knows neither side."""
