"""tcptrace: which TCP connections of this host are heading toward a reset, why, when, and who is the slow reader."""

__version__ = "0.1.0"
