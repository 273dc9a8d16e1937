"""python -m tracer: the command line from a checkout."""

from tracer.cli import main

main()
