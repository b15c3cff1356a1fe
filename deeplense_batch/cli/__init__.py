"""What a person types: a verb is a typed function, and its docstring is its help.

Open `verbs` first: the table of all verbs, by what they are for. A new verb is a function in one
of the files ``*_verbs``, with an example in its docstring, and its name in that table. `parse` and
`values` read what was typed by the annotations of the function, `help` shows them, and `recipes`
finds the runs of the recipes that were named. A verb checks what it was given, imports what it
needs (not before, so that ``--help`` answers at once), calls one function of the package, prints
what came of it and gives the exit code. This folder may know all others; only `__main__` knows it.
"""
