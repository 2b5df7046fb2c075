"""Provenance: what is said of the machine, and what is not."""

import json

from sympo.studies import provenance


def test_provenance_holds_nothing_of_the_environment(monkeypatch):
    variables = ("HF_TOKEN", "OPENAI_API_KEY", "PIP_INDEX_URL", "HTTPS_PROXY", "USER", "HOME")
    for name in variables:
        monkeypatch.setenv(name, f"sesame-{name}")
    text = json.dumps(provenance.collect(study="hh"))
    assert "sesame" not in text
    assert '"study": "hh"' in text
