"""The page of a report: its parts, its template and its script."""
