"""Events of campaigns: recorded with every move, read as pages or as a stream."""
