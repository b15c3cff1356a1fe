"""What a person types: a verb is a typed function, and its docstring is its help.

Open `verbs` first: the table of all verbs, by what they are for. A new verb is a function in one
of the files ``*_verbs``, with an example in its docstring, a comment at each parameter, which is
that parameter's help, and a place in that table. `parse` and `values` read what was typed by the
annotations of the function, and `help` shows them. A verb checks what it was given, imports what
it needs (not before, so that ``--help`` answers at once), calls one function of the package and
prints what came of it; it returns an exit code where that may be another than 0. This folder may
know all others; only `__main__` knows it.
"""
