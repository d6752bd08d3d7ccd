"""A round's updates become the next global adapter."""
