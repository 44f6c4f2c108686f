"""What finished runs say: rows, tables, figures, records."""
