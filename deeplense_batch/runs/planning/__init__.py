"""From jobs to runs: what each needs, whether it can be carried out, and its directory.

Open `plan` first.
"""
