"""A judge of answers, over HTTP on loopback."""
