"""What a person sees in the terminal: words, tables, and views that move.

It knows the values of the control protocol and how to show them. It does not know sockets or
commands. Only `words` may be imported at start-up; the others import rich.
"""
