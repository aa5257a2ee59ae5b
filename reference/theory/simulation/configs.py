"""The sweeps: a size for a CPU, the size of the paper, and modular addition."""

from reference.theory.first_order.modular import ModularAddition
from reference.theory.first_order.teacher import CubicTeacher
from reference.theory.simulation.sampling import Sampling

NOISES = (0.1, 0.15, 0.2, 0.25, 0.3)
REDUCED = CubicTeacher(noise=0.15, width=88, n_data=375, dimension=53, readout_variance=8 / 700 * 8**0.5)  # b = 1/8
MODULAR = ModularAddition(noise=0.001, width=1600, modulus=5, readout_variance=1.2e-4, decay=0.5)

PAPER = CubicTeacher(noise=0.15)

SAMPLINGS = {
    "sweep": Sampling(task=REDUCED, noises=NOISES, steps=1000, observations=50),
    "paper": Sampling(task=PAPER, noises=NOISES, n_networks=200, steps=2000, observations=50, block=5),
    "modular": Sampling(
        task=MODULAR, noises=(0.0006, 0.0012, 0.0018, 0.0025, 0.004), n_networks=8, steps=1500, block=4,
        observations=100, snapshots=1,
    ),
}  # fmt: skip
