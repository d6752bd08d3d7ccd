"""Shared parts of all endpoints: authentication, dependencies, pages, errors as problem+json."""
