"""The database: sessions and transactions, tables, the schema's migration."""
