"""Reports for people: tables, figures, pictures, HTML pages."""
