"""Plan, start and follow the runs of a sweep."""
