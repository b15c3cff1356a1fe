"""What a person types: words become the arguments of a verb.

Open `run_verbs` first.
"""
