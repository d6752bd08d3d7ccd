"""Updates that their owner holds: kept here when a training ends, compared, and sent once they are let go."""
