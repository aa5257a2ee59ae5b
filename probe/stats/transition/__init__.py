"""Order of a transition: phases of weights, barriers, hopping rates, loops and cumulants."""
