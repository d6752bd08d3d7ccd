"""What pydantic says of our models: the texts of fields, and errors with a place of our own."""
