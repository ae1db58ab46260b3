"""What a sweep says, what a run is, and the setting of a trial."""
