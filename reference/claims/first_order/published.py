"""Numbers of arXiv:2310.03789.

We could read its abstract only. All numbers below come from a third-party summary of its text and figures.
"""

READING = "third-party summary"

REPORTED = {
    "transition": {"figure 2": "u about 30.2, s^2 about .18"},
    "phases": {"section 3": "GFL, then GMFL-I (mixed), then GMFL-II as u grows"},
    "learned": {"figure 2": "200 networks (N = 700, n = 3,000, d = 150) lie on the theory, s^2 from .1 to .3"},
    "fixed kernel": {"figure 2": "about 5e5 data for the cubic part"},
    "modular": {"figure 3": "s^2_I about .227, s^2_II about .175, a from -1 to -.7"},
    "widths": {
        "appendix D": "N = 2,800 before, 1,400 just after the transition, 700 in GMFL-I; test loss drops sharply"
    },
    "kernel factor": {"equation for lambda": "F = 1"},
}
