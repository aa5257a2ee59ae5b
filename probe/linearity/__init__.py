"""How straight a network is along lines between samples: the mathematics, and the network behind a layer."""
