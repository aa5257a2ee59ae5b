"""How far the features of a layer have moved, and what they represent."""
