"""Growth, classes and flow of the singular modes of weight matrices."""
