"""What every endpoint stands on: authentication, dependencies, pages, errors as problem+json."""
