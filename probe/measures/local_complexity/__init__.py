"""Number of units that change sign near a point."""
