"""The blinded rating task in a notebook: buttons, keys, progress, undo.

What a rater sees are a prompt and two answers, as text: nothing in the data is run or drawn, and
nothing that is sent to the page tells whose an answer is.
"""

import html
import math
import re
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sympo.rating import CANNOT_SAY, FIRST, SECOND, TIE, Items, RatingFile, Ratings
from sympo.rating.ratings import count, mark
from sympo.rating.sheet import show_prompt

__all__ = ["RatingWidget", "rate"]

# ours: what comes sooner after the last is the second click of a double click, or a key held down,
# and was not meant for the pair that it would rate
_PAUSE = 0.3  # seconds


class _Choice(NamedTuple):
    """A button and its key."""

    key: str
    verdict: str
    text: str


_CHOICES = (
    _Choice("1", FIRST, "Answer 1 is better"),
    _Choice("2", SECOND, "Answer 2 is better"),
    _Choice("t", TIE, "Tie"),
    _Choice("c", CANNOT_SAY, "Cannot say"),
)
_UNDO = "u"

# The page's own colours, which follow its theme; the second ones are for pages without.
_PANEL = (
    "white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; overflow: auto; "
    "line-height: 1.45; padding: 0.6em 0.8em; border-radius: 4px; max-height: {height}; "
    "border: 1px solid var(--jp-border-color2, #bdbdbd); "
    "background: var(--jp-layout-color{shade}, {colour}); "
    "color: var(--jp-content-font-color1, #212121)"
)
_PROMPT = _PANEL.format(height="16em", shade=2, colour="#eeeeee")
_ANSWER = _PANEL.format(height="28em", shade=1, colour="white")
# Half characters, which no page can be sent, and what reorders the text around it.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def rate(items: Items, file: str | Path, *, rater: str, simulated: bool = False) -> "RatingWidget":
    """Show the first pair that `rater` has not rated; each verdict goes to `file` at once.

    A cell that ends with this call shows the widget. Run again, after a restart of the kernel or on
    another day, it goes on where it was. It waits for nobody: a notebook that is executed without a
    reader says how many pairs were rated, and runs on.

    Keys work while the box "Key" has the focus; a click on a button gives it the focus, too. A
    verdict that comes within 0.3 s of the last is not counted, so that neither a double click nor a
    key held down rates a pair that nobody has read.

    Args:
        file: a ratings file, made where there is none.
        rater: the name that the ratings go by.
        simulated: for a demonstration: what is clicked is marked as simulated.
    Raises:
        ImportError: no ipywidgets.
        ValueError, TimeoutError: what `sympo.rating.RatingFile` refuses, or a rater without a name.
    Check: tests/library/test_rating_widget.py, tests/e2e/test_rating_in_lab.py.
    """
    return RatingWidget(items, file, rater=rater, simulated=simulated)


class RatingWidget:
    """What `rate` shows.

    Attributes:
        file: the ratings file; `file.ratings` is what stands in it.
        box: the ipywidget.
    """

    def __init__(
        self, items: Items, file: str | Path, *, rater: str, simulated: bool = False
    ) -> None:
        if not rater.strip():
            raise ValueError("rater is empty: give the name that the ratings go by")
        widgets = _import_widgets()
        self.file = RatingFile(file, items, simulated=simulated)
        self._rater = rater
        self._position: int | None = None  # of the pair on the screen; None after the last
        self._last = -math.inf  # when something was clicked or typed

        self._progress = widgets.HTML()
        self._prompt = widgets.HTML()
        # beside each other where there is room
        half = widgets.Layout(flex="1 1 320px", min_width="280px")
        wrap = widgets.Layout(flex_flow="row wrap", grid_gap="4px", align_items="flex-start")
        self._answers = [widgets.HTML(layout=half), widgets.HTML(layout=half)]
        self._message = widgets.HTML()
        self._acts: dict[str, Callable[[], None]] = {
            **{choice.key: partial(self._rate, choice) for choice in _CHOICES},
            _UNDO: self._undo,
        }
        self._buttons = [self._make_button(choice.text, choice.key) for choice in _CHOICES]
        self._keys = widgets.Text(
            description="Key",
            placeholder=", ".join(self._acts),
            layout=widgets.Layout(width="170px"),
            style={"description_width": "initial"},
        )
        self._keys.observe(self._read_key, names="value")
        # What is clicked stands above what is read: it stays where it is, however long the answers.
        controls = [*self._buttons, self._make_button("Undo", _UNDO), self._keys]
        self.box = widgets.VBox(
            [
                self._progress,
                widgets.HBox(controls, layout=wrap),
                self._message,
                self._prompt,
                widgets.HBox(self._answers, layout=wrap),
            ],
            layout=widgets.Layout(grid_gap="6px"),
        )
        self._show("")

    def __str__(self) -> str:
        """One line: how far the rater is, and where the ratings are."""
        progress = _describe_progress(self.file.ratings, self._rater)
        text = f"{self._rater}: {progress}; ratings in {self.file.path}"
        return mark(text, simulated=self.file.simulated)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        # The line stands where there is no kernel to draw the widget.
        bundle: dict[str, Any] = self.box._repr_mimebundle_(**options)
        return {**bundle, "text/plain": f"{self}. Run this cell in JupyterLab to rate."}

    def _make_button(self, text: str, key: str) -> Any:
        button = _import_widgets().Button(
            description=f"{text} ({key})", tooltip=f"key {key}", layout={"width": "auto"}
        )
        button.on_click(lambda _: self._act(self._acts[key]))
        return button

    def _read_key(self, change: dict[str, Any]) -> None:
        typed = change["new"].casefold()
        if not typed:
            return
        self._keys.value = ""  # for the next key
        # Two characters are no key: the second was typed before this pair was on the screen.
        self._act(self._acts.get(typed, partial(self._say, f"No such key: {typed}")))

    def _act(self, act: Callable[[], None]) -> None:
        """Rate or undo, unless it comes too soon; what goes wrong is said on the screen."""
        now = time.monotonic()
        too_soon = now - self._last < _PAUSE
        self._last = now
        if too_soon:
            return
        try:
            act()
        except (ValueError, OSError) as error:
            self._say(f"Not saved: {error}")
        # ipywidgets 7, which Colab has, cannot move the focus.
        if hasattr(self._keys, "focus"):
            self._keys.focus()

    def _rate(self, choice: _Choice) -> None:
        if self._position is None:
            self._say("All pairs are rated.")
            return
        key = self.file.items[self._position].key
        try:
            self.file.add(key, choice.verdict, rater=self._rater)
        except ValueError as error:
            # rated in another window, perhaps: on with what is left
            self._show(f"Not saved: {error}")
            return
        self._show(f"Saved: pair {self._position + 1}, {choice.text.lower()}.")

    def _undo(self) -> None:
        taken = self.file.undo(rater=self._rater)
        self._show("Nothing to take back." if taken is None else "Taken back: rate it again.")

    def _show(self, message: str) -> None:
        """Put the first pair that is not rated on the screen, and say how far the rater is."""
        ratings = self.file.ratings
        rated = {rating.key for rating in ratings if rating.rater == self._rater}
        waiting = (i for i, item in enumerate(ratings.items) if item.key not in rated)
        self._position = next(waiting, None)
        self._show_progress(ratings)
        self._show_pair(ratings.items)
        self._say(message)

    def _show_progress(self, ratings: Ratings) -> None:
        own = sum(rating.rater == self._rater for rating in ratings)
        title = "Which answer is better?"
        badge = "<b>SIMULATED: no person's ratings.</b> " if self.file.simulated else ""
        self._progress.value = (
            f"<div style='font-size: 110%'><b>{title}</b></div><div>{badge}"
            f"<progress max='{len(ratings.items)}' value='{own}' aria-label='rated'></progress> "
            f"{html.escape(_describe_progress(ratings, self._rater))}</div>"
        )

    def _show_pair(self, items: Items) -> None:
        done = self._position is None
        for button in self._buttons:
            button.disabled = done
        if self._position is None:
            self._prompt.value = "<b>All pairs are rated. Thank you.</b>"
            texts = ("", "")
        else:
            item = items[self._position]
            texts = item.shown
            self._prompt.value = _panel(
                f"Pair {self._position + 1}: prompt", show_prompt(item.prompt), _PROMPT
            )
        for number, (answer, text) in enumerate(zip(self._answers, texts, strict=True), start=1):
            answer.value = "" if done else _panel(f"Answer {number}", text, _ANSWER)

    def _say(self, message: str) -> None:
        self._message.value = f"<div role='status'>{html.escape(message)}</div>"


def _describe_progress(ratings: Ratings, rater: str) -> str:
    """Such as "12 of 40 rated, 3 ties"."""
    verdicts = Counter(rating.verdict for rating in ratings if rating.rater == rater)
    progress = f"{verdicts.total()} of {len(ratings.items)} rated, {count(verdicts[TIE], 'tie')}"
    unsure = verdicts[CANNOT_SAY]
    return f"{progress}, {unsure} cannot say" if unsure else progress


def _panel(heading: str, text: str, style: str) -> str:
    """A text as it is: what looks like HTML in it is text, too."""
    plain = html.escape(_UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n")))
    # The focus lets the arrow keys scroll a long text.
    return (
        f"<div><b>{heading}</b></div>"
        f"<div role='region' aria-label='{heading}' tabindex='0' dir='auto' style='{style}'>"
        f"{plain or '<i>(empty)</i>'}</div>"
    )


def _import_widgets() -> Any:
    try:
        import ipywidgets
    except ImportError as error:
        raise ImportError(
            "rating in a notebook needs the package ipywidgets: pip install ipywidgets; "
            "sympo.rating.write_sheet needs none"
        ) from error
    return ipywidgets
