"""What a person types: a verb is a typed function, and its docstring is its help.

Open `verbs` first: the table of all verbs, by what they are for, and how a line that was typed
becomes one of them. A new verb is a function in one of the files ``*_verbs`` and its name in that
table. `parse` reads words by the annotations of the function's parameters, `help` shows them, and
`recipes` finds the jobs that words name. A verb checks what it was given, imports what it needs,
so that ``--help`` answers at once, calls one function of the package, prints what came of it, and
gives the exit code. This folder may know all others; only `__main__` knows it.
"""
