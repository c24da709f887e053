"""Where in the user's code something was asked for."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import django

_OWN = (str(Path(django.__file__).parent), str(Path(__file__).parents[1]))
_INSTALLED = (*_OWN, *{sysconfig.get_path(each) for each in ("stdlib", "purelib", "platlib")})


def place() -> str:
    """Return the file and the line of the nearest code that is not an installed package's.

    Where there is none, the nearest that is neither Django's nor this package's.
    """
    nearest = frame = sys._getframe(1)
    for passed_over in (_INSTALLED, _OWN):
        frame = nearest
        while frame.f_code.co_filename.startswith(passed_over):
            if frame.f_back is None:
                break
            frame = frame.f_back
        else:
            break
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
