"""From the owner's rows to tokens: templates, tokenising, the cache, and the sample of each round."""
