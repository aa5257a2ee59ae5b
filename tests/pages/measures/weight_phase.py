"""The layer is GFL before, and mixed after units have specialised."""


def check(names, printed):
    assert names["series"]["weight_phase"].values.flatten().tolist() == [0, 1]
    assert abs(names["series"]["weight_phase_droplet_fraction"].values.flatten()[1] - 0.3) < 0.02
