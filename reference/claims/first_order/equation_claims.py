"""Claims on solutions of the equations of arXiv:2310.03789."""

from reference.claims.base import Claim, nothing_published
from reference.claims.first_order import theory
from reference.claims.first_order.configurations import FIGURE_2, PRINTED, PRINTED_SHARE
from reference.claims.first_order.published import REPORTED

_OURS = "no claim of the paper"
_ABOUT = f"the printed number, within half a unit of its last digit or {PRINTED_SHARE:.0%}"
_SINGLE_READOUT = FIGURE_2.readout_variance * FIGURE_2.width  # 8: s_a^2 of figure 2 before the division by N

EQUATIONS = [
    Claim(
        "the cubic teacher has its transition at u = 30.2",
        "figure 2",
        "the network leaves GFL at u of about 30.2, which is a noise of about .18",
        _ABOUT,
        nothing_published,
        theory.teacher_numbers(printed=False),
        REPORTED["transition"],
    ),
    Claim(
        "Q_11 is as printed",
        "equation for Q",
        "the first entry of Q is s_a^2 <2 q^2 / (pi D)>; its integral has 4 in place of 2",
        f"{_ABOUT}, with 2",
        nothing_published,
        theory.teacher_numbers(printed=True),
        REPORTED["transition"],
    ),
    Claim(
        "modular addition has its transitions at .227 and .175",
        "figure 3",
        "the network leaves GFL at s^2 of about .227, and enters GMFL-II at about .175, where a is about -.7",
        _ABOUT,
        nothing_published,
        theory.modular_numbers,
        REPORTED["modular"],
    ),
    Claim(
        "figure 3 has a second transition",
        "figure 3",
        "at low noise all neurons are specialised (GMFL-II)",
        "a positive noise s^2_II",
        nothing_published,
        theory.second_transition(PRINTED),
        REPORTED["modular"],
    ),
    Claim(
        "figure 3 has a second transition with F = 4 P^2",
        "-",
        f"({_OURS}: the factor of lambda that follows from the model)",
        "a positive noise s^2_II",
        nothing_published,
        theory.second_transition(None),
    ),
    Claim(
        "the phases come in one order",
        "section 3",
        "the network passes GFL, GMFL-I and GMFL-II as the noise falls",
        "two or three phases in this order, at 21 noises from .4 to .02",
        nothing_published,
        theory.order_of_phases,
        REPORTED["phases"],
    ),
    Claim(
        "the action has two equal minima",
        "abstract, section 3",
        "the transition is of first order",
        "at the transition, two minima of equal action with a barrier in proportion to the size between them",
        nothing_published,
        theory.two_minima,
    ),
    Claim(
        "three widths lie before, just after and beyond the transition",
        "appendix D",
        "N = 2,800 is GFL, N = 1,400 is just after the transition, and N = 700 is mixed",
        "the critical width lies between 2,800 and 1,400; the solver has the same phases",
        nothing_published,
        theory.widths,
        REPORTED["widths"],
    ),
    Claim(
        "a fixed kernel needs 5e5 data for the cubic part",
        "figure 2",
        "the kernel of infinitely wide networks learns the cubic part from about 5e5 data only",
        "half of the cubic part at this number within a factor of 3, with s_a^2 = 8",
        nothing_published,
        theory.needed_data(_SINGLE_READOUT),
        REPORTED["fixed kernel"],
    ),
    Claim(
        "the same with the kernel of the sampled networks",
        "-",
        f"({_OURS}, which does not name s_a^2 in our reading: networks of figure 2 have s_a^2 = 8 / N)",
        "half of the cubic part at 5e5 data within a factor of 3",
        nothing_published,
        theory.needed_data(FIGURE_2.readout_variance),
    ),
]
