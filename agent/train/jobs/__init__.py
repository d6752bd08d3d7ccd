"""The coordinator's four jobs: prepare, init, train, evaluate."""
