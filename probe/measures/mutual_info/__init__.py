"""Information of noisy layers about inputs and labels."""
