"""Where the units of a network change sign near a point: frames of directions, crossings, distances, densities."""
