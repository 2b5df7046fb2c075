"""Charts with sliders, in which a reader tries out what a figure shows for a few fixed values.

Every chart is Vega-Lite that computes in the page itself, so that it works in JupyterLab, on Colab
and in the HTML book, with no kernel and no network. What no formula of Vega-Lite's can compute is
tabulated beforehand on the grid of the slider, by the package's own functions.
"""

from sympo.book.explorables.labels import t10_votes, t14_thermometer
from sympo.book.explorables.losses import t3_noisy_losses, t5_beta_family
from sympo.book.explorables.order import t2_tied_order, t7_four_actions
from sympo.book.explorables.parts import Explorable
from sympo.book.explorables.policies import mnist_policies, t8_improvement

__all__ = [
    "Explorable",
    "mnist_policies",
    "t2_tied_order",
    "t3_noisy_losses",
    "t5_beta_family",
    "t7_four_actions",
    "t8_improvement",
    "t10_votes",
    "t14_thermometer",
]
