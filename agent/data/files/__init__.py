"""Files of the owner to records, strictly: JSON, tables of text. No row is parsed here."""
