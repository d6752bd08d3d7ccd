"""The child as a process: its environment, its streams, its loop over orders, its memory."""
