"""Shape of one curve: monotone fits, change points, prominences and spikes."""
