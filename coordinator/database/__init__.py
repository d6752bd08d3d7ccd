"""The database: sessions and transactions, tables, schema migration."""
