"""What a report says beside the ranking of models, each a block of its page.

Open `block` first, which says what a block is.
"""
