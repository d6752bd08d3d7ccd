"""The reference of the REST API, from the endpoints themselves: the OpenAPI document, and a page for people."""
