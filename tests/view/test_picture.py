"""The picture holds the table's words, and asks no other host for anything."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from tests.views import proxied, screen, view
from tracer.view.picture import svg
from tracer.view.table import Header


def test_the_words_of_the_table_are_in_it() -> None:
    text = svg(screen(view(), proxied()), Header("web-1", 65.0, "port 8443", 8, 8), "a <title>")
    words = "".join(ET.fromstring(text).itertext()).replace("\xa0", " ")
    assert "slow reader: java[32278]/worker-1" in words
    assert "a <title>" in words
    assert not re.search(r"url\(.?https?:|href=.https?:", text)
