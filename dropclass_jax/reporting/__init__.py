"""What a person reads at the end of a run: tables, figures, pictures, one page."""
