"""The database: its address, sessions and transactions, tables, what drivers raise, schema migration."""
