"""Sentences with the Markdown that other modules write in them, as safe HTML."""

import re

from markupsafe import Markup, escape


def inline(text: object) -> Markup:
    """Escaped text in which `**a**` is strong, `*a*` emphasised and `` `a` `` code.

    Nothing else of Markdown is understood, and no HTML in `text` survives.
    """
    html = re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", str(escape(text)))
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
    html = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)
    html = re.sub(r"(?<![\w*])\*(?!\s)([^*]+)(?<!\s)\*(?![\w*])", r"<em>\1</em>", html)
    return Markup(html)
