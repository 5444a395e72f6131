"""Models that are split over processes: engines, and the ways that are refused."""
