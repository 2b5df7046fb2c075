"""Figures and tables: one style, one look per method, one pure function per figure.

A figure function bears the stem of its files: `figures.fig1_mnist_losses` draws
`fig1_mnist_losses.pdf`. It takes tidy tables, returns a Figure, and reads and writes nothing;
`save` does that. Nothing here imports torch, so that figures can be redrawn from the csv alone.
"""

from sympo.book.figures.alignment import (
    fig3_gold_win_rate,
    fig4_gold_frontier,
    fig5_hh_win_rate,
    fig6_ultrafeedback_win_rate,
)
from sympo.book.figures.audit import fig15_noise_routes
from sympo.book.figures.family import fig7_loss_family, fig7_temperatures, fig_t15_bad_starts
from sympo.book.figures.files import (
    find_figure,
    save,
    save_provenance,
    save_table,
    to_markdown,
)
from sympo.book.figures.map import fig16_map, fig16_verdicts
from sympo.book.figures.mnist import fig1_learning_curves, fig1_mnist_losses, fig2_mnist_noise
from sympo.book.figures.patterns import (
    fig8_noise_patterns,
    fig8_pattern_contrasts,
    fig_t11_band,
)
from sympo.book.figures.policy import fig10_mnist_policy, fig11_mnist_frontier, fig12_broken_order
from sympo.book.figures.samples import fig9_mnist_sizes, fig_t10_axes, fig_t10_guarantee
from sympo.book.figures.story import fig_t0_story, fig_t1_margin_losses, fig_t1_two_ways

# `figures.style` is this function; the module of the same name is reached by `from … import`.
from sympo.book.figures.style import (
    HALF,
    METHODS,
    OKABE_ITO,
    WIDTH,
    Method,
    direct_labels,
    in_order,
    interval_table,
    label,
    line_with_band,
    look,
    reference_line,
    style,
    subplots,
)
from sympo.book.figures.tables import use_readable_tables
from sympo.book.figures.text import fig13_real_text, fig14_score_noise
from sympo.book.figures.theory_losses import fig_t5_blur, fig_t5_losses, fig_t6_minimisers
from sympo.book.figures.theory_noise import (
    fig_t2_tied_order,
    fig_t2_tree,
    fig_t3_logistic_penalty,
    fig_t4_wrong_rate,
)
from sympo.book.figures.theory_rank import (
    fig_t7_four_actions,
    fig_t7_wrong_orders,
    fig_t8_improvement,
    fig_t8_policies,
    fig_t9_gradients,
)
from sympo.book.figures.thermometer import fig_t14_thermometer

__all__ = [
    "HALF",
    "METHODS",
    "OKABE_ITO",
    "WIDTH",
    "Method",
    "direct_labels",
    "fig1_learning_curves",
    "fig1_mnist_losses",
    "fig2_mnist_noise",
    "fig3_gold_win_rate",
    "fig4_gold_frontier",
    "fig5_hh_win_rate",
    "fig6_ultrafeedback_win_rate",
    "fig7_loss_family",
    "fig7_temperatures",
    "fig8_noise_patterns",
    "fig8_pattern_contrasts",
    "fig9_mnist_sizes",
    "fig10_mnist_policy",
    "fig11_mnist_frontier",
    "fig12_broken_order",
    "fig13_real_text",
    "fig14_score_noise",
    "fig15_noise_routes",
    "fig16_map",
    "fig16_verdicts",
    "fig_t0_story",
    "fig_t1_margin_losses",
    "fig_t1_two_ways",
    "fig_t2_tied_order",
    "fig_t2_tree",
    "fig_t3_logistic_penalty",
    "fig_t4_wrong_rate",
    "fig_t5_blur",
    "fig_t5_losses",
    "fig_t6_minimisers",
    "fig_t7_four_actions",
    "fig_t7_wrong_orders",
    "fig_t8_improvement",
    "fig_t8_policies",
    "fig_t9_gradients",
    "fig_t10_axes",
    "fig_t10_guarantee",
    "fig_t11_band",
    "fig_t14_thermometer",
    "fig_t15_bad_starts",
    "find_figure",
    "in_order",
    "interval_table",
    "label",
    "line_with_band",
    "look",
    "reference_line",
    "save",
    "save_provenance",
    "save_table",
    "style",
    "subplots",
    "to_markdown",
    "use_readable_tables",
]
