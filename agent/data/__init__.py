"""The owner's data: files to records, records to rows, and a report on both. No torch."""
