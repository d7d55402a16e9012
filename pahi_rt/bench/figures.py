"""matplotlib's figures, without its state and its windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pahi_rt.cache import lend_cache
from pahi_rt.errors import PahiError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that makes room for its labels. Raises PahiError without matplotlib."""
    lend_cache()
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise PahiError("plots need matplotlib", fix="pip install 'pahi-rt[bench]'") from error
    return Figure(figsize=(width, height), layout="constrained")
