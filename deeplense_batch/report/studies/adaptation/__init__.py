"""What networks gain that were adapted to images without labels, beside those that were not.

Open `gains` first, the numbers; `page` says them.
"""
