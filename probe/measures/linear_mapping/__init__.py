"""The linear mapping number of the network behind a layer."""
