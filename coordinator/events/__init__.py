"""What happened in campaigns: written with every move, read as pages or as a stream."""
